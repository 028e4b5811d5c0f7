"""The complete detector, and pure functions of it that give more than the logits."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from spectra_jax.model.aasist import KANAASIST, NUM_BRANCHES
from spectra_jax.model.activations import selu
from spectra_jax.model.back_ends import PoolLinear
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.ecapa import ECAPATDNN
from spectra_jax.model.encoder import SpeechEncoder
from spectra_jax.model.functional import SplitModel, split_method
from spectra_jax.model.graph import smallest_rank_gap
from spectra_jax.model.hooks import StageHook, no_hook
from spectra_jax.model.linear import Linear
from spectra_jax.model.precision import Precision
from spectra_jax.model.symbolic import is_outside, num_frames

# Stages that PyTorch computes channels first and this package channels last: our axes in PyTorch's order.
_PYTORCH_AXES = {"ssl.feature_extractor": (0, 2, 1), "residual_encoder": (0, 3, 1, 2), "attention": (0, 3, 1, 2)}

POOLS: tuple[str, ...] = (
    *("pool_s", "pool_t"),
    *(f"branch{index}.{pool}" for index in range(1, NUM_BRANCHES + 1) for pool in ("pool_s", "pool_t")),
)
"""The graph pools, named as their stages."""


class Bridge(nnx.Module):
    """Two linear layers from the width of the encoder to that of the back-end."""

    def __init__(self, in_features: int, out_features: int, *, precision: Precision, rngs: nnx.Rngs | None):
        self.linear1 = Linear(in_features, out_features, precision=precision, rngs=rngs)
        self.linear2 = Linear(out_features, out_features, precision=precision, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, deterministic=True)

    def __call__(
        self, x: Float[Array, "batch frames hidden"], *, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch frames bridge_dim"]:
        x = self.dropout(selu(self.linear1(x)), rngs=rngs)
        return self.dropout(self.linear2(x), rngs=rngs)


class SpectraAASIST3(nnx.Module):
    """Speech anti-spoofing detector: windows (batch, samples) -> logits (batch, 2), spoof and bona fide.

    `logits[:, 1]` is the score: higher = more bona fide. Dropout is off and batch norms use their stored statistics
    until `train()` is called; then pass `rngs=nnx.Rngs(dropout=key)`.
    """

    def __init__(self, config: SpectraConfig, *, precision: Precision | str = "float32", rngs: nnx.Rngs | None):
        precision = Precision.of(precision)
        self.encoder = SpeechEncoder(config.encoder, precision=precision, rngs=rngs)
        # Everything after the encoder is computed in full precision: see `Precision`.
        self.bridge = Bridge(config.encoder.hidden_size, config.bridge_dim, precision=precision.full, rngs=rngs)
        if config.back_end == "pool+linear":
            self.pool_linear = PoolLinear(config, precision=precision.full, rngs=rngs)
        elif config.back_end == "ecapa-tdnn":
            self.ecapa_tdnn = ECAPATDNN(config, precision=precision.full, rngs=rngs)
        else:
            self.aasist = KANAASIST(config, precision=precision.full, rngs=rngs)
        self.config = config
        self.precision = precision

    def __call__(
        self,
        windows: Float[Array | np.ndarray, "batch samples"],
        *,
        rngs: nnx.Rngs | None = None,
        hook: StageHook = no_hook,
    ) -> Float[Array, "batch 2"]:
        """Classify windows.

        Args:
          windows: at `config.sample_rate`, after pre-emphasis (`spectra_jax.audio.prepare`). The published window has
            64,600 samples; any length of 3 to `max_frames` frames works.
          rngs: the stream `dropout`, needed after `train()` only.
          hook: called with every named stage, and may replace it.

        Raises:
          ValueError: a shape that the network does not take, or float64 without x64.
        """
        self.precision.require_mode()
        if windows.ndim != 2:
            raise ValueError(f"expected windows of shape (batch, samples), found {windows.shape}")
        encoder, max_frames = self.config.encoder, self.config.max_frames
        frames = num_frames(encoder, windows.shape[1])
        if is_outside(frames, 3, max_frames):
            raise ValueError(
                f"windows of {windows.shape[1]} samples give {frames} frames, but the network takes 3 to max_frames = "
                f"{max_frames}, that is {encoder.num_samples(3)} to {encoder.num_samples(max_frames + 1) - 1} samples"
            )
        x = self.encoder(windows, rngs=rngs, hook=hook)
        x = hook("bridge", self.bridge(x, rngs=rngs))
        return self.back_end(x, rngs=rngs, hook=hook)

    @property
    def back_end(self) -> KANAASIST | ECAPATDNN | PoolLinear:
        """What follows the bridge: see `SpectraConfig.back_end`."""
        if self.config.back_end == "pool+linear":
            return self.pool_linear
        return self.ecapa_tdnn if self.config.back_end == "ecapa-tdnn" else self.aasist


def abstract_model(config: SpectraConfig, precision: Precision | str = "float32") -> SpectraAASIST3:
    """The network as it is trained, with shapes in place of weights. It needs no memory and starts no device.

    A network loaded for inference may have narrower weights: see `checkpoints.load.abstract_inference_model`.
    """
    return SpectraAASIST3(config, precision=precision, rngs=None)


def count_parameters(config: SpectraConfig) -> int:
    """The number of trainable parameters. PyTorch's weight norm has one more for each position of its kernel."""
    params = nnx.state(abstract_model(config), nnx.Param)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def pool_ratios(config: SpectraConfig) -> dict[str, float]:
    """The share of its nodes that each of `POOLS` keeps."""
    return dict.fromkeys(POOLS, config.pool_ratios[2]) | dict(zip(POOLS[:2], config.pool_ratios[:2], strict=True))


def split_with_rank_gaps(model: SpectraAASIST3) -> SplitModel:
    """Like `split`, with the smallest rank gap of each graph pool: see `spectra_jax.model.rank_gap`.

    Returns:
      `forward(params, rest, windows (batch, samples)) -> (batch, 2 + 10)`, the logits followed by the smallest rank gap
      of each of `POOLS`; the parameters, and the rest. It compiles to another program than that of `split`, so that
      logits may differ by rounding. A network without graph pools (`ecapa-tdnn`, `pool+linear`) ranks nothing: all gaps
      are infinite.
    """
    ratios = pool_ratios(model.config)

    def logits_and_gaps(model: SpectraAASIST3, windows: Array) -> Array:
        gaps: dict[str, Array] = {}

        def record_gap(name: str, value: Array) -> Array:
            if name.endswith(".scores"):
                pool = name.removesuffix(".scores")
                gaps[pool] = smallest_rank_gap(value, ratios[pool])
            return value

        logits = model(windows, hook=record_gap)
        no_tie = jnp.full(logits.shape[:1], jnp.inf, logits.dtype)
        return jnp.concatenate([logits, *(gaps.get(pool, no_tie)[:, None] for pool in POOLS)], axis=1)

    return split_method(model, logits_and_gaps)


def stages(model: SpectraAASIST3, windows: Float[Array | np.ndarray, "batch samples"]) -> dict[str, Array]:
    """Every named stage of one forward pass, in PyTorch's layout (channels first), to locate a divergence.

    The scores by which the graph pools rank nodes are among them, as `POOL.scores`.
    """

    def record_stages(model: SpectraAASIST3, windows: Array) -> dict[str, Array]:
        recorded: dict[str, Array] = {}

        def record(name: str, value: Array) -> Array:
            over_time = value.ndim == 3 and name.startswith("ecapa.")
            axes = (0, 2, 1) if over_time else _PYTORCH_AXES.get(name, tuple(range(value.ndim)))
            recorded[name] = jnp.transpose(value, axes)
            return value

        model(windows, hook=record)
        return recorded

    forward, params, rest = split_method(model, record_stages)
    found: dict[str, Array] = jax.jit(forward)(params, rest, windows)
    return found
