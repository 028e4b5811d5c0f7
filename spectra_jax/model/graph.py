"""The graph layers of KAN-AASIST: attention within one node type, attention across two, and the pool that ranks nodes.

Source: Jung et al., "AASIST: Audio Anti-Spoofing using Integrated Spectro-Temporal Graph Attention Networks" (2022);
Borodin et al., "AASIST3: KAN-Enhanced AASIST" (2024). Nodes are `(batch, node, feature)` throughout.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.nn import initializers

from spectra_jax.model.config import KANConfig
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.layers import BatchNorm, Tap, initial, selu, untapped
from spectra_jax.model.precision import Precision


def _pairs(num_nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The unordered pairs of nodes (i <= j), and for each cell of the (n, n) map which pair it shows."""
    first, second = np.triu_indices(num_nodes)
    cell = np.empty((num_nodes, num_nodes), np.int32)
    cell[first, second] = cell[second, first] = np.arange(first.size, dtype=np.int32)
    return first.astype(np.int32), second.astype(np.int32), cell


def pairwise_logits(x: jax.Array, projection: KANLinear, weights: jax.Array) -> tuple[jax.Array, np.ndarray]:
    """`tanh(KAN(x_i * x_j)) @ weights` (b, pairs, k) for each unordered pair, and the map (n, n) from cells to pairs.

    The product is the same for (i, j) and (j, i), so half of the cells need no work of their own.
    """
    first, second, cell = _pairs(x.shape[1])
    products = x[:, first] * x[:, second]
    return projection(products, lambda features: projection.precision.dot(jnp.tanh(features), weights)), cell


class GraphAttention(nnx.Module):
    """Attention over all pairs of one type of node: GAT-S and GAT-T. (b, n, in) -> (b, n, out)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        temperature: float,
        *,
        kan: KANConfig,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        def project() -> KANLinear:
            return KANLinear(in_features, out_features, kan, precision=precision, rngs=rngs)

        self.dropout = nnx.Dropout(0.2, deterministic=True)
        self.pair_projection = project()
        self.pair_weight = nnx.Param(initial(rngs, initializers.glorot_normal(), (out_features, 1), precision.dtype))
        self.attended_projection = project()
        self.node_projection = project()
        self.norm = BatchNorm(out_features, precision=precision, rngs=rngs)
        self.temperature = temperature
        self.precision = precision

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.dropout(x, rngs=rngs)
        logits, cell = pairwise_logits(x, self.pair_projection, self.pair_weight[...])  # (b, pairs, 1)
        logits = logits[..., 0] / self.temperature
        # The map of logits is symmetric. A CPU is slow to compile, and to compute, a softmax over short rows.
        attention = jax.nn.softmax(logits[:, cell], axis=1)  # (b, n, n), columns sum to one
        attended = self.precision.einsum("bji,bjd->bid", attention, x)
        y = self.attended_projection(attended) + self.node_projection(x)
        return selu(self.norm(y))


class HeterogeneousGraphAttention(nnx.Module):
    """Attention over temporal and spectral nodes together, with a master node that listens to all: ST1 and ST2."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        temperature: float,
        *,
        kan: KANConfig,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        def project(width: int = out_features) -> KANLinear:
            return KANLinear(in_features, width, kan, precision=precision, rngs=rngs)

        def weight() -> nnx.Param[jax.Array]:
            return nnx.Param(initial(rngs, initializers.glorot_normal(), (out_features, 1), precision.dtype))

        self.temporal_projection = project(in_features)
        self.spectral_projection = project(in_features)
        self.dropout = nnx.Dropout(0.2, deterministic=True)
        self.pair_projection = project()
        self.pair_weight_temporal = weight()
        self.pair_weight_spectral = weight()
        self.pair_weight_cross = weight()
        self.master_pair_projection = project()
        self.master_pair_weight = weight()
        self.attended_projection = project()
        self.node_projection = project()
        self.attended_master_projection = project()
        self.master_projection = project()
        self.norm = BatchNorm(out_features, precision=precision, rngs=rngs)
        self.temperature = temperature
        self.precision = precision

    def __call__(
        self, temporal: jax.Array, spectral: jax.Array, master: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """temporal (b, t, in), spectral (b, s, in), master (b, 1, in) -> the same three with `out` features."""
        num_temporal = temporal.shape[1]
        x = jnp.concatenate([self.temporal_projection(temporal), self.spectral_projection(spectral)], axis=1)
        x = self.dropout(x, rngs=rngs)
        attention = self._attention(x, num_temporal)
        # The master listens to the nodes as they are before their own projection.
        new_master = self._update_master(x, master)
        attended = self.precision.einsum("bji,bjd->bid", attention, x)
        y = self.norm(self.attended_projection(attended) + self.node_projection(x))
        return y[:, :num_temporal], y[:, num_temporal:], new_master

    def _attention(self, x: jax.Array, num_temporal: int) -> jax.Array:
        """(b, n, in) -> (b, n, n), whose columns sum to one: what each node hears of all."""
        first, second, _ = _pairs(x.shape[1])
        # A pair's block, by how many of its two nodes are spectral: T-T, across, S-S.
        block = (first >= num_temporal).astype(np.int32) + (second >= num_temporal).astype(np.int32)
        weights = jnp.concatenate(
            [self.pair_weight_temporal[...], self.pair_weight_cross[...], self.pair_weight_spectral[...]], axis=1
        )
        by_block, cell = pairwise_logits(x, self.pair_projection, weights)  # (b, pairs, 3)
        logits = jnp.take_along_axis(by_block, block[None, :, None], axis=-1)[..., 0] / self.temperature
        return jax.nn.softmax(logits[:, cell], axis=1)

    def _update_master(self, x: jax.Array, master: jax.Array) -> jax.Array:  # (b, n, in), (b, 1, in) -> (b, 1, out)
        features = jnp.tanh(self.master_pair_projection(x * master))
        logits = self.precision.dot(features, self.master_pair_weight[...])[..., 0] / self.temperature  # (b, n)
        attention = jax.nn.softmax(logits, axis=1)
        heard = self.precision.einsum("bn,bnd->bd", attention, x)[:, None]
        return self.attended_master_projection(heard) + self.master_projection(master)


class GraphPool(nnx.Module):
    """Keeps the best-ranked share of the nodes, best first, each scaled by its score. (b, n, d) -> (b, k, d).

    The order matters downstream, and two nodes whose scores nearly tie can swap under rounding: the tap `NAME.scores`
    shows the ranking scores, from which `smallest_rank_gap` tells how near a tie was.
    """

    def __init__(self, features: int, ratio: float, *, kan: KANConfig, precision: Precision, rngs: nnx.Rngs | None):
        self.dropout = nnx.Dropout(0.3, deterministic=True)
        self.projection = KANLinear(features, 1, kan, precision=precision, rngs=rngs)
        self.ratio = ratio

    def __call__(
        self, x: jax.Array, *, rngs: nnx.Rngs | None = None, tap: Tap = untapped, name: str = "pool"
    ) -> jax.Array:
        scores = jax.nn.sigmoid(self.projection(self.dropout(x, rngs=rngs)))[..., 0]  # (b, n)
        scores = tap(f"{name}.scores", scores)
        best, index = lax.top_k(scores, num_kept(x.shape[1], self.ratio))
        kept = jnp.take_along_axis(x, index[..., None], axis=1)
        return tap(name, kept * best[..., None])


def num_kept(num_nodes: int, ratio: float) -> int:
    """Nodes that a graph pool keeps: at least one."""
    return max(int(num_nodes * ratio), 1)


def smallest_rank_gap(scores: jax.Array, ratio: float) -> jax.Array:
    """The smallest difference between neighbours in a pool's ranking, (b, n) -> (b,).

    Over the kept ranks, the last of them against the first one dropped. Below about 2e-5 a float32 ranking, and with
    it the trial's score, is not comparable across implementations. Infinite where there is nothing to rank.
    """
    ranked = -jnp.sort(-scores, axis=-1)
    gaps = ranked[:, :-1] - ranked[:, 1:]
    return jnp.min(gaps[:, : num_kept(scores.shape[1], ratio)], axis=-1, initial=jnp.inf)
