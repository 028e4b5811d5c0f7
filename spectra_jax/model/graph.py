"""The graph layers of KAN-AASIST: attention within one node type, attention across two, and the pool that ranks nodes.

With `kan=None` their projections are plain linear layers, as in AASIST.

Source: Jung et al., "AASIST: Audio Anti-Spoofing using Integrated Spectro-Temporal Graph Attention Networks" (2022);
Borodin et al., "AASIST3: KAN-Enhanced AASIST" (2024). Nodes are `(batch, node, feature)` throughout.
"""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Float, Int32

from spectra_jax.model.activations import selu
from spectra_jax.model.back_ends import projection
from spectra_jax.model.config import KANConfig
from spectra_jax.model.hooks import StageHook, no_hook
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.linear import Linear
from spectra_jax.model.norms import BatchNorm
from spectra_jax.model.parameters import initial_value
from spectra_jax.model.precision import Precision
from spectra_jax.model.symbolic import Size, is_symbolic

# Nodes up to which the formula for a symbolic number of kept nodes is compared with that for a known one.
_MOST_NODES = 10_000


def _pairs(num_nodes: Size) -> tuple[Array | np.ndarray, Array | np.ndarray, Array | np.ndarray]:
    """The unordered pairs of nodes i <= j, as `i` (pairs,) and `j` (pairs,), and the pair of each (i, j), (n, n)."""
    if is_symbolic(num_nodes):
        return _symbolic_pairs(num_nodes)
    first, second = np.triu_indices(num_nodes)
    pair_index = np.empty((num_nodes, num_nodes), np.int32)
    pair_index[first, second] = pair_index[second, first] = np.arange(first.size, dtype=np.int32)
    return first.astype(np.int32), second.astype(np.int32), pair_index


def _symbolic_pairs(num_nodes: Size) -> tuple[Array, Array, Array]:
    """The same pairs, in another order, where the number of nodes is not known while tracing.

    Pair (i, j) has the index j (j + 1) / 2 + i.
    """
    nodes = jnp.arange(num_nodes, dtype=np.int32)
    index_of_first_pair = nodes * (nodes + 1) // 2
    pairs = jnp.arange(num_nodes * (num_nodes + 1) // 2, dtype=np.int32)
    # Not `searchsorted`, which takes no symbolic sizes.
    second = jnp.sum(pairs[:, None] >= index_of_first_pair, axis=1, dtype=np.int32) - 1
    first = pairs - index_of_first_pair[second]
    lower, higher = jnp.minimum(nodes[:, None], nodes), jnp.maximum(nodes[:, None], nodes)
    return first, second, index_of_first_pair[higher] + lower


def pairwise_logits(
    x: Float[Array, "batch nodes inputs"], projection: KANLinear | Linear, weights: Float[Array, "features kinds"]
) -> tuple[Float[Array, "batch pairs kinds"], Int32[Array | np.ndarray, "nodes nodes"]]:
    """`tanh(projection(x_i * x_j)) @ weights` for each unordered pair of nodes, and the pair's index for each (i, j).

    The product is the same for (i, j) and (j, i), so that half of the pairs need no computation.
    """
    first, second, pair_index = _pairs(x.shape[1])
    products = x[:, first] * x[:, second]

    def weigh(features: Array) -> Array:
        return projection.precision.dot(jnp.tanh(features), weights)

    # A KAN layer applies the function to each chunk of rows, so that the features are never in memory together.
    logits = weigh(projection(products)) if isinstance(projection, Linear) else projection(products, weigh)
    return logits, pair_index


class GraphAttention(nnx.Module):
    """Attention over all pairs of nodes of one type: GAT-S and GAT-T."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        temperature: float,
        *,
        kan: KANConfig | None,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        def project() -> KANLinear | Linear:
            return projection(in_features, out_features, kan, precision=precision, rngs=rngs)

        self.dropout = nnx.Dropout(0.2, deterministic=True)
        self.pair_projection = project()
        self.pair_weight = nnx.Param(
            initial_value(rngs, initializers.glorot_normal(), (out_features, 1), precision.dtype)
        )
        self.attended_projection = project()
        self.node_projection = project()
        self.norm = BatchNorm(out_features, precision=precision, rngs=rngs)
        self.temperature = temperature
        self.precision = precision

    def __call__(
        self, x: Float[Array, "batch nodes inputs"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch nodes outputs"]:
        x = self.dropout(x, rngs=rngs)
        logits, pair_index = pairwise_logits(x, self.pair_projection, self.pair_weight[...])  # (b, pairs, 1)
        logits = logits[..., 0] / self.temperature
        # The logits are symmetric. A softmax over short rows is slow to compile and to run on a CPU.
        attention = jax.nn.softmax(logits[:, pair_index], axis=1)  # (b, n, n), columns sum to one
        attended = self.precision.einsum("bji,bjd->bid", attention, x)
        y = self.attended_projection(attended) + self.node_projection(x)
        return selu(self.norm(y))


class HeterogeneousGraphAttention(nnx.Module):
    """Attention over temporal and spectral nodes together, with a master node that attends to all: ST1 and ST2."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        temperature: float,
        *,
        kan: KANConfig | None,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        def project(width: int = out_features) -> KANLinear | Linear:
            return projection(in_features, width, kan, precision=precision, rngs=rngs)

        def weight() -> nnx.Param[Array]:
            return nnx.Param(initial_value(rngs, initializers.glorot_normal(), (out_features, 1), precision.dtype))

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
        self,
        temporal: Float[Array, "batch temporal inputs"],
        spectral: Float[Array, "batch spectral inputs"],
        master: Float[Array, "batch 1 inputs"],
        *,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[
        Float[Array, "batch temporal outputs"], Float[Array, "batch spectral outputs"], Float[Array, "batch 1 outputs"]
    ]:
        """Temporal nodes, spectral nodes and the master node, updated."""
        num_temporal = temporal.shape[1]
        x = jnp.concatenate([self.temporal_projection(temporal), self.spectral_projection(spectral)], axis=1)
        x = self.dropout(x, rngs=rngs)
        attention = self._attention(x, num_temporal)
        # The master node attends to the nodes before their own update.
        new_master = self._update_master(x, master)
        attended = self.precision.einsum("bji,bjd->bid", attention, x)
        y = self.norm(self.attended_projection(attended) + self.node_projection(x))
        return y[:, :num_temporal], y[:, num_temporal:], new_master

    def _attention(self, x: Array, num_temporal: int) -> Array:
        """Nodes (b, n, in) -> weights (b, n, n) with which each node (column) attends to all (rows)."""
        first, second, _ = _pairs(x.shape[1])
        # How many of the two nodes are spectral: 0 for temporal pairs, 1 for mixed ones, 2 for spectral pairs.
        kind = (first >= num_temporal).astype(np.int32) + (second >= num_temporal).astype(np.int32)
        weights = jnp.concatenate(
            [self.pair_weight_temporal[...], self.pair_weight_cross[...], self.pair_weight_spectral[...]], axis=1
        )
        by_kind, pair_index = pairwise_logits(x, self.pair_projection, weights)  # (b, pairs, 3)
        logits = jnp.take_along_axis(by_kind, kind[None, :, None], axis=-1)[..., 0] / self.temperature
        return jax.nn.softmax(logits[:, pair_index], axis=1)

    def _update_master(self, x: Array, master: Array) -> Array:  # (b, n, in), (b, 1, in) -> (b, 1, out)
        features = jnp.tanh(self.master_pair_projection(x * master))
        logits = self.precision.dot(features, self.master_pair_weight[...])[..., 0] / self.temperature  # (b, n)
        attention = jax.nn.softmax(logits, axis=1)
        attended = self.precision.einsum("bn,bnd->bd", attention, x)[:, None]
        return self.attended_master_projection(attended) + self.master_projection(master)


class GraphPool(nnx.Module):
    """Keeps the highest-ranked share of the nodes, in the order of their scores, each scaled by its score.

    The order affects all later layers, and two nodes whose scores nearly tie can swap under rounding. The stage
    `NAME.scores` holds the scores; `smallest_rank_gap` gives the distance from a tie.
    """

    def __init__(
        self, features: int, ratio: float, *, kan: KANConfig | None, precision: Precision, rngs: nnx.Rngs | None
    ):
        self.dropout = nnx.Dropout(0.3, deterministic=True)
        self.projection = projection(features, 1, kan, precision=precision, rngs=rngs)
        self.ratio = ratio

    def __call__(
        self,
        x: Float[Array, "batch nodes features"],
        *,
        rngs: nnx.Rngs | None = None,
        hook: StageHook = no_hook,
        name: str = "pool",
    ) -> Float[Array, "batch kept features"]:
        scores = jax.nn.sigmoid(self.projection(self.dropout(x, rngs=rngs)))[..., 0]  # (b, n)
        scores = hook(f"{name}.scores", scores)
        top_scores, index = lax.top_k(scores, num_kept(x.shape[1], self.ratio))
        kept = jnp.take_along_axis(x, index[..., None], axis=1)
        return hook(name, kept * top_scores[..., None])


def num_kept(num_nodes: Size, ratio: float) -> Size:
    """Nodes that a graph pool keeps: at least one.

    Raises:
      ValueError: the number of nodes is symbolic, and rounding makes the formula depend on it.
    """
    if not is_symbolic(num_nodes):
        return max(int(num_nodes * ratio), 1)
    numerator, denominator = Fraction(ratio).limit_denominator(1000).as_integer_ratio()
    nodes = np.arange(_MOST_NODES)
    if np.any((nodes * ratio).astype(np.int64) != nodes * numerator // denominator):
        raise ValueError(f"a pool that keeps {ratio} of its nodes needs a fixed number of samples")
    return jax.core.max_dim(num_nodes * numerator // denominator, 1)


def smallest_rank_gap(scores: Float[Array | np.ndarray, "batch nodes"], ratio: float) -> Float[Array, " batch"]:
    """The smallest difference between the scores of neighbours in a pool's ranking.

    It covers the kept nodes and the first one that is dropped. Below about 2e-5 a float32 ranking, and with it the
    trial's score, is not comparable across implementations. It is infinite for a single node.
    """
    ranked = -jnp.sort(-scores, axis=-1)
    gaps = ranked[:, :-1] - ranked[:, 1:]
    return jnp.min(gaps[:, : num_kept(scores.shape[1], ratio)], axis=-1, initial=jnp.inf)
