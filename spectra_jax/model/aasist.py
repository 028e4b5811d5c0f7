"""KAN-AASIST: frame features -> a graph of spectral and temporal nodes -> two logits.

Source: Borodin et al., "AASIST3: KAN-Enhanced AASIST Speech Deepfake Detection" (2024), as the published network runs.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.nn import initializers

from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.graph import GraphAttention, GraphPool, HeterogeneousGraphAttention
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.layers import BatchNorm, Conv, Tap, initial, selu, untapped, worked_out
from spectra_jax.model.precision import Precision

NUM_BRANCHES = 4
# The attention map's inner width; the reference fixes it.
ATTENTION_CHANNELS = 128


class ResidualBlock(nnx.Module):
    """Two convolutions and a short cut, (b, spectral, time, in) -> (b, spectral, time, out)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, first: bool, precision: Precision, rngs: nnx.Rngs | None
    ):
        conv = functools.partial(Conv, precision=precision, rngs=rngs)
        # The first block of the encoder gets its input normalised already.
        self.norm1 = None if first else BatchNorm(in_channels, precision=precision, rngs=rngs)
        self.conv1 = conv(in_channels, out_channels, (2, 3), padding=((1, 1), (1, 1)))
        self.norm2 = BatchNorm(out_channels, precision=precision, rngs=rngs)
        self.conv2 = conv(out_channels, out_channels, (2, 3), padding=((0, 0), (1, 1)))
        # Named for what the checkpoint calls it; it changes channels only, never the resolution.
        same = in_channels == out_channels
        self.downsample = None if same else conv(in_channels, out_channels, (1, 3), padding=((0, 0), (1, 1)))

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = x if self.norm1 is None else selu(self.norm1(x))
        y = self.conv1(y)  # one spectral row more, which the second convolution takes away again
        y = self.conv2(selu(self.norm2(y)))
        return y + shortcut


class ResidualEncoder(nnx.Module):
    """Frame features (b, time, dim) as an image -> (b, dim // 3, time // 3, channels)."""

    def __init__(self, config: SpectraConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        self.input_norm = BatchNorm(1, precision=precision, rngs=rngs)
        self.blocks = nnx.List(
            ResidualBlock(*channels, first=index == 0, precision=precision, rngs=rngs)
            for index, channels in enumerate(config.residual_channels)
        )
        self.output_norm = BatchNorm(config.residual_channels[-1][1], precision=precision, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.abs(x.swapaxes(1, 2))[..., None]  # (b, spectral, time, 1)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 3, 3, 1), "VALID")
        x = selu(self.input_norm(x))
        for block in self.blocks:
            x = block(x)
        return selu(self.output_norm(x))


class AttentionMap(nnx.Module):
    """The map (b, spectral, time, channels) whose softmaxes weigh time for each spectral node, and the reverse."""

    def __init__(self, channels: int, *, precision: Precision, rngs: nnx.Rngs | None):
        self.conv1 = Conv(channels, ATTENTION_CHANNELS, (1, 1), precision=precision, rngs=rngs)
        self.norm = BatchNorm(ATTENTION_CHANNELS, precision=precision, rngs=rngs)
        self.conv2 = Conv(ATTENTION_CHANNELS, channels, (1, 1), precision=precision, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv2(self.norm(selu(self.conv1(x))))


class Branch(nnx.Module):
    """One of the four inference branches: two heterogeneous layers with a pool of each node type between them."""

    def __init__(self, config: SpectraConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        width, inner = config.gat_dims
        attention = functools.partial(
            HeterogeneousGraphAttention,
            temperature=config.temperatures[2],
            kan=config.kan,
            precision=precision,
            rngs=rngs,
        )
        pool = functools.partial(
            GraphPool, inner, config.pool_ratios[2], kan=config.kan, precision=precision, rngs=rngs
        )
        self.master = nnx.Param(initial(rngs, initializers.normal(1.0), (1, 1, width), precision.dtype))
        self.st1 = attention(width, inner)
        self.pool_s, self.pool_t = pool(), pool()
        self.st2 = attention(inner, inner)
        self.dropout = nnx.Dropout(0.2, deterministic=True)

    def __call__(
        self,
        temporal: jax.Array,
        spectral: jax.Array,
        *,
        rngs: nnx.Rngs | None = None,
        tap: Tap = untapped,
        name: str = "branch",
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """temporal (b, t, width), spectral (b, s, width) -> fewer of both, and master (b, 1, inner)."""
        master = jnp.broadcast_to(self.master[...], (temporal.shape[0], 1, temporal.shape[2]))
        first = self.st1(temporal, spectral, master, rngs=rngs)
        temporal, spectral, master = (tap(f"{name}.st1.{i}", value) for i, value in enumerate(first))
        spectral = self.pool_s(spectral, rngs=rngs, tap=tap, name=f"{name}.pool_s")
        temporal = self.pool_t(temporal, rngs=rngs, tap=tap, name=f"{name}.pool_t")
        second = self.st2(temporal, spectral, master, rngs=rngs)
        temporal = self.dropout(tap(f"{name}.0", temporal + second[0]), rngs=rngs)
        spectral = self.dropout(tap(f"{name}.1", spectral + second[1]), rngs=rngs)
        master = self.dropout(tap(f"{name}.2", master + second[2]), rngs=rngs)
        return temporal, spectral, master


class KANAASIST(nnx.Module):
    """Frame features (b, frames, bridge_dim) -> logits (b, 2): spoof, bona fide."""

    def __init__(self, config: SpectraConfig, *, precision: Precision | str = "float32", rngs: nnx.Rngs | None):
        precision = Precision.of(precision)
        channels = config.residual_channels[-1][1]
        width, inner = config.gat_dims
        attention = functools.partial(GraphAttention, channels, width, kan=config.kan, precision=precision, rngs=rngs)
        pool = functools.partial(GraphPool, width, kan=config.kan, precision=precision, rngs=rngs)
        normal = initializers.normal(1.0)
        self.temporal_position = nnx.Param(
            initial(rngs, normal, (1, config.max_frames, config.bridge_dim), precision.dtype)
        )
        self.residual_encoder = ResidualEncoder(config, precision=precision, rngs=rngs)
        self.attention_map = AttentionMap(channels, precision=precision, rngs=rngs)
        self.spectral_position = nnx.Param(
            initial(rngs, normal, (1, config.num_spectral_nodes, channels), precision.dtype)
        )
        self.gat_s = attention(config.temperatures[0])
        self.gat_t = attention(config.temperatures[1])
        self.pool_s = pool(config.pool_ratios[0])
        self.pool_t = pool(config.pool_ratios[1])
        # Four of them, or one that holds the weights of all, with an axis in front.
        self.branches: nnx.List[Branch] | Branch = nnx.List(
            Branch(config, precision=precision, rngs=rngs) for _ in range(NUM_BRANCHES)
        )
        self.dropout = nnx.Dropout(0.5, deterministic=True)
        self.head = KANLinear(5 * inner, config.num_classes, config.kan, precision=precision, rngs=rngs)

    def fold(self) -> None:
        """Stack the branches' weights once: see `spectra_jax.model.spectra.folded`."""
        graphs, states = zip(*map(nnx.split, _each(self.branches)), strict=True)
        stacked = jax.tree.map(functools.partial(worked_out, lambda *leaves: np.stack(leaves)), *states)
        self.branches = nnx.merge(graphs[0], stacked)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None, tap: Tap = untapped) -> jax.Array:
        """Features (b, frames, bridge_dim), 3 to max_frames frames -> logits (b, 2).

        Raises:
          ValueError: too few frames, or more than there are temporal positions.
        """
        frames, max_frames = x.shape[1], self.temporal_position[...].shape[1]
        if not 3 <= frames <= max_frames:
            raise ValueError(f"{frames} frames, but the network takes 3 to max_frames = {max_frames}")
        x = x + self.temporal_position[:, :frames]
        x = tap("residual_encoder", self.residual_encoder(x))  # (b, spectral, time, channels)
        weights = tap("attention", self.attention_map(x))

        spectral = jnp.sum(x * jax.nn.softmax(weights, axis=2), axis=2) + self.spectral_position[...]
        spectral = tap("gat_s", self.gat_s(spectral, rngs=rngs))
        spectral = self.pool_s(spectral, rngs=rngs, tap=tap, name="pool_s")

        temporal = jnp.sum(x * jax.nn.softmax(weights, axis=1), axis=1)  # no positional term here
        temporal = tap("gat_t", self.gat_t(temporal, rngs=rngs))
        temporal = self.pool_t(temporal, rngs=rngs, tap=tap, name="pool_t")

        if tap is untapped:
            branches = _one_after_another(self.branches, temporal, spectral, rngs)
        else:
            branches = [
                branch(temporal, spectral, rngs=rngs, tap=tap, name=f"branch{index}")
                for index, branch in enumerate(_each(self.branches), start=1)
            ]
        # Position by position: the rank order within each branch decides what meets what.
        temporal, spectral, master = (functools.reduce(jnp.maximum, same) for same in zip(*branches, strict=True))
        pooled = jnp.concatenate(
            [
                jnp.max(jnp.abs(temporal), axis=1),
                jnp.mean(temporal, axis=1),
                jnp.max(jnp.abs(spectral), axis=1),
                jnp.mean(spectral, axis=1),
                master[:, 0],
            ],
            axis=-1,
        )
        pooled = self.dropout(tap("pooled", pooled), rngs=rngs)
        return tap("logits", self.head(pooled))


def _one_after_another(
    branches: Sequence[Branch] | Branch, temporal: jax.Array, spectral: jax.Array, rngs: nnx.Rngs | None
) -> list[Any]:
    """What every branch gives, from one loop over them: compiled once instead of four times.

    Nothing inside a loop can be tapped.
    """
    if isinstance(branches, Branch):
        graph, *stacked = nnx.split(branches, nnx.Param, nnx.BatchStat)
    else:
        (graph, *_), *states = zip(*(nnx.split(branch, nnx.Param, nnx.BatchStat) for branch in branches), strict=True)
        stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in states]
    keys = None if rngs is None else jnp.stack([rngs.dropout() for _ in range(NUM_BRANCHES)])

    def hear(own: Any) -> Any:
        *states, key = own
        branch = nnx.merge(graph, *states, copy=True)
        heard = branch(temporal, spectral, rngs=None if key is None else nnx.Rngs(dropout=key))
        return heard, nnx.state(branch, nnx.BatchStat)

    heard, moved = lax.map(hear, (*stacked, keys))
    if not isinstance(branches, Branch) and not branches[0].st1.norm.use_running_average:
        for index, branch in enumerate(branches):
            nnx.update(branch, jax.tree.map(operator.itemgetter(index), moved))
    return [jax.tree.map(operator.itemgetter(index), heard) for index in range(NUM_BRANCHES)]


def _each(branches: Sequence[Branch] | Branch) -> Sequence[Branch]:
    """The branches one by one, whether they are stacked or not."""
    if not isinstance(branches, Branch):
        return branches
    graph, stacked = nnx.split(branches)
    return [nnx.merge(graph, jax.tree.map(operator.itemgetter(index), stacked)) for index in range(NUM_BRANCHES)]
