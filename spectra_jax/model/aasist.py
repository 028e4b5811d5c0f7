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
from flax import nnx
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Float

from spectra_jax.model.activations import selu
from spectra_jax.model.back_ends import build_head, graph_kan
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.conv import Conv
from spectra_jax.model.graph import GraphAttention, GraphPool, HeterogeneousGraphAttention
from spectra_jax.model.hooks import StageHook, no_hook
from spectra_jax.model.norms import BatchNorm
from spectra_jax.model.parameters import initial_value
from spectra_jax.model.platform import platform_dependent
from spectra_jax.model.precision import Precision
from spectra_jax.model.symbolic import Size, is_outside, is_symbolic

NUM_BRANCHES = 4
# The inner width of the attention map; fixed in the reference.
ATTENTION_CHANNELS = 128


class ResidualBlock(nnx.Module):
    """Two convolutions and a shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, *, first: bool, precision: Precision, rngs: nnx.Rngs | None
    ):
        conv = functools.partial(Conv, precision=precision, rngs=rngs)
        # The input of the first block is normalized by the encoder.
        self.norm1 = None if first else BatchNorm(in_channels, precision=precision, rngs=rngs)
        self.conv1 = conv(in_channels, out_channels, (2, 3), padding=((1, 1), (1, 1)))
        self.norm2 = BatchNorm(out_channels, precision=precision, rngs=rngs)
        self.conv2 = conv(out_channels, out_channels, (2, 3), padding=((0, 0), (1, 1)))
        # Named as in the checkpoint. It changes the channels only, never the resolution.
        keeps_channels = in_channels == out_channels
        self.downsample = None if keeps_channels else conv(in_channels, out_channels, (1, 3), padding=((0, 0), (1, 1)))

    def __call__(self, x: Float[Array, "batch spectral time inputs"]) -> Float[Array, "batch spectral time outputs"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = x if self.norm1 is None else selu(self.norm1(x))
        y = self.conv1(y)  # adds a spectral row, which the second convolution removes
        y = self.conv2(selu(self.norm2(y)))
        return y + shortcut


class ResidualEncoder(nnx.Module):
    """Frame features as a one-channel image -> (b, dim // 3, time // 3, channels)."""

    def __init__(self, config: SpectraConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        self.input_norm = BatchNorm(1, precision=precision, rngs=rngs)
        self.blocks = nnx.List(
            ResidualBlock(*channels, first=index == 0, precision=precision, rngs=rngs)
            for index, channels in enumerate(config.residual_channels)
        )
        self.output_norm = BatchNorm(config.residual_channels[-1][1], precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "batch time dim"]) -> Float[Array, "batch dim//3 time//3 channels"]:
        x = jnp.abs(x.swapaxes(1, 2))[..., None]  # (b, spectral, time, 1)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 3, 3, 1), "VALID")
        x = selu(self.input_norm(x))
        for block in self.blocks:
            x = block(x)
        return selu(self.output_norm(x))


class AttentionMap(nnx.Module):
    """Attention logits: their softmax over time weighs the input of a spectral node, and the reverse."""

    def __init__(self, channels: int, *, precision: Precision, rngs: nnx.Rngs | None):
        self.conv1 = Conv(channels, ATTENTION_CHANNELS, (1, 1), precision=precision, rngs=rngs)
        self.norm = BatchNorm(ATTENTION_CHANNELS, precision=precision, rngs=rngs)
        self.conv2 = Conv(ATTENTION_CHANNELS, channels, (1, 1), precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "batch spectral time channels"]) -> Float[Array, "batch spectral time channels"]:
        return self.conv2(self.norm(selu(self.conv1(x))))


class Branch(nnx.Module):
    """One of the four inference branches: two heterogeneous layers with a pool of each node type between them."""

    def __init__(self, config: SpectraConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        width, inner = config.gat_dims
        attention = functools.partial(
            HeterogeneousGraphAttention,
            temperature=config.temperatures[2],
            kan=graph_kan(config),
            precision=precision,
            rngs=rngs,
        )
        pool = functools.partial(
            GraphPool, inner, config.pool_ratios[2], kan=graph_kan(config), precision=precision, rngs=rngs
        )
        self.master = nnx.Param(initial_value(rngs, initializers.normal(1.0), (1, 1, width), precision.dtype))
        self.st1 = attention(width, inner)
        self.pool_s, self.pool_t = pool(), pool()
        self.st2 = attention(inner, inner)
        self.dropout = nnx.Dropout(0.2, deterministic=True)

    def __call__(
        self,
        temporal: Float[Array, "batch temporal width"],
        spectral: Float[Array, "batch spectral width"],
        *,
        rngs: nnx.Rngs | None = None,
        hook: StageHook = no_hook,
        name: str = "branch",
    ) -> tuple[
        Float[Array, "batch kept_temporal inner"],
        Float[Array, "batch kept_spectral inner"],
        Float[Array, "batch 1 inner"],
    ]:
        """The temporal nodes and the spectral nodes that the pools keep, and the master node."""
        master = jnp.broadcast_to(self.master[...], (temporal.shape[0], 1, temporal.shape[2]))
        first = self.st1(temporal, spectral, master, rngs=rngs)
        temporal, spectral, master = (hook(f"{name}.st1.{i}", value) for i, value in enumerate(first))
        spectral = self.pool_s(spectral, rngs=rngs, hook=hook, name=f"{name}.pool_s")
        temporal = self.pool_t(temporal, rngs=rngs, hook=hook, name=f"{name}.pool_t")
        second = self.st2(temporal, spectral, master, rngs=rngs)
        temporal = self.dropout(hook(f"{name}.0", temporal + second[0]), rngs=rngs)
        spectral = self.dropout(hook(f"{name}.1", spectral + second[1]), rngs=rngs)
        master = self.dropout(hook(f"{name}.2", master + second[2]), rngs=rngs)
        return temporal, spectral, master


class KANAASIST(nnx.Module):
    """Frame features -> logits: spoof, bona fide.

    It has KAN layers, or plain linear layers in their place: the back-ends `kan-aasist` and `aasist`.
    """

    def __init__(self, config: SpectraConfig, *, precision: Precision | str = "float32", rngs: nnx.Rngs | None):
        precision = Precision.of(precision)
        channels = config.residual_channels[-1][1]
        width, inner = config.gat_dims
        kan = graph_kan(config)
        attention = functools.partial(GraphAttention, channels, width, kan=kan, precision=precision, rngs=rngs)
        pool = functools.partial(GraphPool, width, kan=kan, precision=precision, rngs=rngs)
        normal = initializers.normal(1.0)
        self.temporal_position = nnx.Param(
            initial_value(rngs, normal, (1, config.max_frames, config.bridge_dim), precision.dtype)
        )
        self.residual_encoder = ResidualEncoder(config, precision=precision, rngs=rngs)
        self.attention_map = AttentionMap(channels, precision=precision, rngs=rngs)
        self.spectral_position = nnx.Param(
            initial_value(rngs, normal, (1, config.num_spectral_nodes, channels), precision.dtype)
        )
        self.gat_s = attention(config.temperatures[0])
        self.gat_t = attention(config.temperatures[1])
        self.pool_s = pool(config.pool_ratios[0])
        self.pool_t = pool(config.pool_ratios[1])
        # Four branches. Folded for inference: one, whose weights are those of all four, stacked along a first axis.
        self.branches: nnx.List[Branch] | Branch = nnx.List(
            Branch(config, precision=precision, rngs=rngs) for _ in range(NUM_BRANCHES)
        )
        self.dropout = nnx.Dropout(0.5, deterministic=True)
        self.head = build_head(5 * inner, config, precision=precision, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch frames bridge_dim"], *, rngs: nnx.Rngs | None = None, hook: StageHook = no_hook
    ) -> Float[Array, "batch 2"]:
        """Classify frame features.

        Args:
          x: 3 to `max_frames` frames, `bridge_dim` features each.
          rngs: the stream `dropout`, needed after `train()` only.
          hook: called with every named stage, and may replace it.

        Raises:
          ValueError: fewer than 3 frames, or more than `max_frames`.
        """
        frames, max_frames = x.shape[1], self.temporal_position[...].shape[1]
        if is_outside(frames, 3, max_frames):
            raise ValueError(f"{frames} frames, but the network takes 3 to max_frames = {max_frames}")
        x = x + self._first_positions(frames)
        x = hook("residual_encoder", self.residual_encoder(x))  # (b, spectral, time, channels)
        weights = hook("attention", self.attention_map(x))

        spectral = jnp.sum(x * jax.nn.softmax(weights, axis=2), axis=2) + self.spectral_position[...]
        spectral = hook("gat_s", self.gat_s(spectral, rngs=rngs))
        spectral = self.pool_s(spectral, rngs=rngs, hook=hook, name="pool_s")

        temporal = jnp.sum(x * jax.nn.softmax(weights, axis=1), axis=1)  # no positional term here
        temporal = hook("gat_t", self.gat_t(temporal, rngs=rngs))
        temporal = self.pool_t(temporal, rngs=rngs, hook=hook, name="pool_t")

        if hook is no_hook:
            branches = _map_branches(self.branches, temporal, spectral, rngs)
        else:
            branches = [
                branch(temporal, spectral, rngs=rngs, hook=hook, name=f"branch{index}")
                for index, branch in enumerate(_unstacked(self.branches), start=1)
            ]
        # Elementwise over the branches: nodes of the same rank are compared, so the ranking matters.
        temporal, spectral, master = (functools.reduce(jnp.maximum, parts) for parts in zip(*branches, strict=True))
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
        pooled = self.dropout(hook("pooled", pooled), rngs=rngs)
        return hook("logits", self.head(pooled))

    def _first_positions(self, frames: Size) -> Array:
        """The temporal positions (1, frames, bridge_dim) of the first frames."""
        if is_symbolic(frames):
            # A slice would have the lower one of two numbers of frames, which tracing cannot compare.
            return jnp.take(self.temporal_position[...], jnp.arange(frames), axis=1, mode="clip")
        return self.temporal_position[:, :frames]


def _map_branches(
    branches: Sequence[Branch] | Branch, temporal: Array, spectral: Array, rngs: nnx.Rngs | None
) -> list[tuple[Array, Array, Array]]:
    """The output of every branch, from a program that is compiled once instead of four times.

    A hook cannot see the stages inside it.
    """
    graph, *states = _stacked(branches)
    keys = None if rngs is None else jnp.stack([rngs.dropout() for _ in range(NUM_BRANCHES)])

    def run_branch(weights_and_key: Any) -> Any:
        *states, key = weights_and_key
        branch = nnx.merge(graph, *states, copy=True)
        output = branch(temporal, spectral, rngs=None if key is None else nnx.Rngs(dropout=key))
        return output, nnx.state(branch, nnx.BatchStat)

    in_turn, at_once = functools.partial(lax.map, run_branch), jax.vmap(run_branch)
    # Small products: one after the other they leave a GPU idle, and together they leave a CPU's cache.
    outputs, statistics = platform_dependent((*states, keys), cpu=in_turn, default=at_once)
    # In training, the copies inside the loop have new batch statistics.
    if not isinstance(branches, Branch) and not branches[0].st1.norm.use_running_average:
        for branch, own_statistics in zip(branches, _unstack(statistics), strict=True):
            nnx.update(branch, own_statistics)
    return _unstack(outputs)


def _stacked(branches: Sequence[Branch] | Branch) -> tuple[Any, Any, Any]:
    """The structure of a branch, and the parameters and the batch statistics of all, stacked along a first axis."""
    if isinstance(branches, Branch):
        graph, *stacked = nnx.split(branches, nnx.Param, nnx.BatchStat)
        return graph, stacked[0], stacked[1]
    (graph, *_), *states = zip(*(nnx.split(branch, nnx.Param, nnx.BatchStat) for branch in branches), strict=True)
    parameters, statistics = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in states)
    return graph, parameters, statistics


def _unstacked(branches: Sequence[Branch] | Branch) -> Sequence[Branch]:
    """The four branches as modules of their own, also if they are stacked."""
    if not isinstance(branches, Branch):
        return branches
    graph, stacked = nnx.split(branches)
    return [nnx.merge(graph, state) for state in _unstack(stacked)]


def _unstack(tree: Any) -> list[Any]:
    """The tree of each branch, from one whose arrays have the branches as their first axis."""
    return [jax.tree.map(operator.itemgetter(index), tree) for index in range(NUM_BRANCHES)]
