"""The whole detector, and the pure functions that people put inside their own `jax.jit`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spectra_jax.model.aasist import KANAASIST, NUM_BRANCHES
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.graph import smallest_rank_gap
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.layers import BatchNorm, Linear, Tap, selu, untapped
from spectra_jax.model.precision import Precision
from spectra_jax.model.wav2vec2 import XLSREncoder

# Stages that PyTorch computes channels first and this package channels last.
_REFERENCE_AXES = {"ssl.feature_extractor": (0, 2, 1), "residual_encoder": (0, 3, 1, 2), "attention": (0, 3, 1, 2)}

POOLS: tuple[str, ...] = (
    *("pool_s", "pool_t"),
    *(f"branch{index}.{pool}" for index in range(1, NUM_BRANCHES + 1) for pool in ("pool_s", "pool_t")),
)
"""The graph pools, by the names of their stages."""


class Bridge(nnx.Module):
    """Encoder features (b, frames, hidden) -> (b, frames, bridge_dim)."""

    def __init__(self, in_features: int, out_features: int, *, precision: Precision, rngs: nnx.Rngs | None):
        self.linear1 = Linear(in_features, out_features, precision=precision, rngs=rngs)
        self.linear2 = Linear(out_features, out_features, precision=precision, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, deterministic=True)

    def __call__(self, x: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = self.dropout(selu(self.linear1(x)), rngs=rngs)
        return self.dropout(self.linear2(x), rngs=rngs)


class SpectraAASIST3(nnx.Module):
    """Speech anti-spoofing detector: windows (b, samples) -> logits (b, 2), spoof and bona fide.

    `logits[:, 1]` is the score: higher = more bona fide. Dropout is off and batch norms use their stored statistics
    until `train()` is called; then pass `rngs=nnx.Rngs(dropout=key)`.
    """

    def __init__(self, config: SpectraConfig, *, precision: Precision | str = "float32", rngs: nnx.Rngs | None):
        precision = Precision.of(precision)
        self.encoder = XLSREncoder(config.encoder, precision=precision, rngs=rngs)
        # Everything after the encoder keeps full precision: see `Precision`.
        self.bridge = Bridge(config.encoder.hidden_size, config.bridge_dim, precision=precision.full, rngs=rngs)
        self.aasist = KANAASIST(config, precision=precision.full, rngs=rngs)
        self.config = config
        self.precision = precision

    def __call__(self, windows: jax.Array, *, rngs: nnx.Rngs | None = None, tap: Tap = untapped) -> jax.Array:
        """Score windows.

        Args:
          windows: (b, samples) at `config.sample_rate`, after pre-emphasis (`spectra_jax.audio.prepare`). The published
            window has 64,600 samples; any length of 3 to `max_frames` frames works.
          rngs: the stream `dropout`, needed after `train()` only.
          tap: sees every named stage, and may replace it.

        Raises:
          ValueError: a shape the network does not take, or float64 without x64.
        """
        self.precision.require_mode()
        if windows.ndim != 2:
            raise ValueError(f"expected windows of shape (batch, samples), found {windows.shape}")
        encoder, max_frames = self.config.encoder, self.config.max_frames
        frames = encoder.num_frames(windows.shape[1])
        if not 3 <= frames <= max_frames:
            raise ValueError(
                f"windows of {windows.shape[1]} samples give {frames} frames, but the network takes 3 to max_frames = "
                f"{max_frames}, that is {encoder.num_samples(3)} to {encoder.num_samples(max_frames + 1) - 1} samples"
            )
        x = self.encoder(windows, tap=tap)
        x = tap("bridge", self.bridge(x, rngs=rngs))
        return self.aasist(x, rngs=rngs, tap=tap)


def abstract_model(config: SpectraConfig, precision: Precision | str = "float32") -> SpectraAASIST3:
    """The network with shapes in place of weights: costs no memory and starts no device."""
    return SpectraAASIST3(config, precision=precision, rngs=None)


def count_parameters(config: SpectraConfig) -> int:
    """Trainable parameters of a network. A folded weight norm has one per kernel tap fewer than PyTorch's pair."""
    params = nnx.state(abstract_model(config), nnx.Param)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def folded(model: SpectraAASIST3) -> SpectraAASIST3:
    """The same network for scoring alone, with what goes by its weights alone worked out once instead of every time.

    It is quicker to trace and to compile, and computes the same but for rounding. It can neither be trained nor saved.
    The encoder's weights are shared with `model`, which may also be a network of shapes. One with layers of classes of
    the caller's own, which might need what is folded away, is returned as it is.

    Raises:
      ValueError: float64 without x64.
    """
    model.precision.require_mode()
    folded = nnx.merge(*nnx.split(model), copy=True)
    modules = [module for _, module in nnx.iter_modules(folded)]
    if not all(type(module).__module__.startswith(("spectra_jax.model.", "flax.nnx.")) for module in modules):
        return model
    for module in modules:
        if isinstance(module, BatchNorm | KANLinear):
            module.fold()
    folded.aasist.fold()
    return folded


def split(model: SpectraAASIST3) -> tuple[Callable[[Any, jax.Array], jax.Array], nnx.State[Any, Any]]:
    """A model as a pure function and its parameters: `forward(params, windows) -> logits`.

    `forward` closes over the architecture alone, so it goes under `jax.jit`, `jax.shard_map`, `jax.pmap` or
    `jax.grad` as it is; `params` is a pytree.
    """
    graph, params = nnx.split(model)

    def forward(params: Any, windows: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(windows)

    return forward, params


def split_with_rank_gaps(model: SpectraAASIST3) -> tuple[Callable[[Any, jax.Array], jax.Array], nnx.State[Any, Any]]:
    """Like `split`, with how nearly each graph pool's ranking tied: see `spectra_jax.model.rank_gap`.

    Returns:
      `forward(params, windows (b, samples)) -> (b, 2 + 10)`, the logits and then the smallest rank gap of each of
      `POOLS`; and the parameters. It compiles to another program than `split`'s, so logits may differ by rounding.
    """
    graph, params = nnx.split(model)
    config = model.config
    ratios = dict.fromkeys(POOLS, config.pool_ratios[2]) | dict(zip(POOLS[:2], config.pool_ratios[:2], strict=True))

    def forward(params: Any, windows: jax.Array) -> jax.Array:
        gaps: dict[str, jax.Array] = {}

        def tap(name: str, value: jax.Array) -> jax.Array:
            if name.endswith(".scores"):
                pool = name.removesuffix(".scores")
                gaps[pool] = smallest_rank_gap(value, ratios[pool])
            return value

        logits = nnx.merge(graph, params)(windows, tap=tap)
        return jnp.concatenate([logits, *(gaps[pool][:, None] for pool in POOLS)], axis=1)

    return forward, params


def stages(model: SpectraAASIST3, windows: jax.Array) -> dict[str, jax.Array]:
    """Every named stage of one forward pass, in the layout PyTorch has it (channels first where it has channels).

    For whoever hunts a divergence. Besides the stages the graph pools' ranking scores are there, as `POOL.scores`.
    """
    graph, params = nnx.split(model)

    @jax.jit
    def run(params: Any, windows: jax.Array) -> dict[str, jax.Array]:
        seen: dict[str, jax.Array] = {}

        def tap(name: str, value: jax.Array) -> jax.Array:
            seen[name] = jnp.transpose(value, _REFERENCE_AXES.get(name, range(value.ndim)))
            return value

        nnx.merge(graph, params)(windows, tap=tap)
        return seen

    return run(params, windows)
