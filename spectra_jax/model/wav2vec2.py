"""The XLS-R speech encoder: wav2vec 2.0 in its stable layer norm form.

Source: Baevski et al., "wav2vec 2.0" (2020); Babu et al., "XLS-R" (2021). Agrees with Hugging Face's `Wav2Vec2Model`
(`do_stable_layer_norm=True`, `feat_extract_norm="layer"`) in evaluation mode, without mask or SpecAugment.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.nn import initializers

from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.layers import Conv, LayerNorm, Linear, Tap, uniform_fan_in, untapped
from spectra_jax.model.precision import Precision


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, as PyTorch computes it: `jax.nn.gelu` uses `erfc`, which takes a CPU three times as long."""
    return 0.5 * x * (1 + lax.erf(x * math.sqrt(0.5)))


@gelu.defjvp
def _gelu_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The derivative, Phi(x) + x phi(x) of the standard normal distribution.

    Written out, since JAX 0.12's own rule for `erf` calls a primitive that cannot be differentiated inside
    `jax.shard_map`, where a training step is: it mixes constants with values that differ between devices.
    """
    (x,), (change,) = primals, tangents
    cumulative = 0.5 * (1 + lax.erf(x * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * jnp.square(x)) * math.sqrt(0.5 / math.pi)
    return gelu(x), (cumulative + x * density) * change


class FeatureExtractorLayer(nnx.Module):
    """One strided convolution, layer norm over channels, GELU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        *,
        config: EncoderConfig,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        self.conv = Conv(
            in_channels,
            out_channels,
            (kernel,),
            strides=(stride,),
            use_bias=config.conv_bias,
            kernel_init=initializers.he_normal(),
            precision=precision,
            rngs=rngs,
        )
        # The reference fixes this epsilon, whatever layer_norm_eps says.
        self.norm = LayerNorm(out_channels, 1e-5, precision=precision, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:  # (b, time, in) -> (b, time', out)
        return gelu(self.norm(self.conv(x)))


class FeatureExtractor(nnx.Module):
    """Waveform (b, samples) -> local features (b, frames, channels), one frame for every 320 samples as published."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        shapes = zip((1, *config.conv_dim), config.conv_dim, config.conv_kernel, config.conv_stride, strict=False)
        self.layers = nnx.List(
            FeatureExtractorLayer(*shape, config=config, precision=precision, rngs=rngs) for shape in shapes
        )
        self.config = config
        # Until `train()`. A CPU takes many times as long to go back through a loop over convolutions.
        self.deterministic = True

    def __call__(self, waveform: jax.Array) -> jax.Array:
        if not self.deterministic:
            return self._at_once(waveform)
        return lax.platform_dependent(waveform, cpu=self._by_tiles, default=self._at_once)

    def _at_once(self, waveform: jax.Array) -> jax.Array:
        x = waveform[..., None]
        for layer in self.layers:
            x = layer(x)
        return x

    def _by_tiles(self, waveform: jax.Array) -> jax.Array:
        """The same, a stretch of frames at a time: the first layers' results are hundreds of times the size of the
        waveform, and a CPU is quicker where they stay in its cache and need no fresh memory. Nothing in the layers
        looks beyond a frame's own samples, so that only those that two stretches share are worked on twice."""
        frames = self.config.num_frames(waveform.shape[1])
        tiles = -(-frames // _TILE_FRAMES)
        length = -(-frames // tiles)
        hop = math.prod(self.config.conv_stride)
        missing = self.config.num_samples(tiles * length) - waveform.shape[1]
        waveform = jnp.pad(waveform, ((0, 0), (0, max(missing, 0))))
        starts = length * hop * np.arange(tiles)
        x = waveform[:, starts[:, None] + np.arange(self.config.num_samples(length))]  # (b, tiles, samples)
        x = lax.map(lambda tile: self._at_once(tile[None])[0], x.reshape(-1, x.shape[-1]))
        return x.reshape(waveform.shape[0], tiles * length, -1)[:, :frames]


# 72 frames are 1.4 s, and 9 MB after the first layer in float32.
_TILE_FRAMES = 72


class FeatureProjection(nnx.Module):
    """Layer norm, then a linear map to the transformer's width."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        channels = config.conv_dim[-1]
        init = uniform_fan_in(channels)
        self.norm = LayerNorm(channels, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.linear = Linear(
            channels, config.hidden_size, kernel_init=init, bias_init=init, precision=precision, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:  # (b, frames, channels) -> (b, frames, hidden)
        return self.linear(self.norm(x))


class PositionalConvolution(nnx.Module):
    """A wide grouped convolution whose output tells each frame where it is. The kernel is stored with its weight norm
    folded in."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        taps = config.num_conv_pos_embeddings
        self.conv = Conv(
            config.hidden_size,
            config.hidden_size,
            (taps,),
            # An even kernel padded by half of itself on both sides gives one frame too many; the reference drops the
            # last one, which is the same as not padding for it.
            padding=((taps // 2, taps // 2 - (taps % 2 == 0)),),
            groups=config.num_conv_pos_embedding_groups,
            kernel_init=initializers.normal(2 * math.sqrt(1 / (taps * config.hidden_size))),
            bias_init=initializers.zeros,
            precision=precision,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:  # (b, frames, hidden)
        return gelu(self.conv(x))


class SelfAttention(nnx.Module):
    """Multi-head self-attention over all frames, no mask."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        def project() -> Linear:
            return _transformer_linear(config.hidden_size, config.hidden_size, precision=precision, rngs=rngs)

        self.query, self.key, self.value, self.out = project(), project(), project(), project()
        self.num_heads = config.num_attention_heads
        self.precision = precision

    def __call__(self, x: jax.Array) -> jax.Array:  # (b, frames, hidden)
        heads = (*x.shape[:-1], self.num_heads, x.shape[-1] // self.num_heads)  # (b, frames, heads, d)

        def by_head(projected: jax.Array) -> jax.Array:  # (b, frames, hidden) -> (b, heads, frames, d)
            # Heads first, so that each of the many small products reads memory in order: twice as fast on a CPU.
            return projected.astype(self.precision.operand_dtype).reshape(heads).swapaxes(1, 2)

        query, key, value = self.query(x) * heads[-1] ** -0.5, self.key(x), self.value(x)
        if self.precision.operand_dtype == jnp.bfloat16 and cudnn_attends():
            # One kernel that never writes the attention map to memory; it takes no wider operands.
            operands = (projected.astype(jnp.bfloat16).reshape(heads) for projected in (query, key, value))
            heard = jax.nn.dot_product_attention(*operands, scale=1.0, implementation="cudnn")
        else:
            query, key, value = by_head(query), by_head(key), by_head(value)
            logits = self.precision.einsum("bhqd,bhkd->bhqk", query, key)
            attention = jax.nn.softmax(logits, axis=-1)
            heard = self.precision.einsum("bhqk,bhkd->bhqd", attention, value).swapaxes(1, 2)
        return self.out(heard.reshape(x.shape))


def cudnn_attends() -> bool:
    """Whether JAX computes on NVIDIA GPUs for which cuDNN has a fused attention: Ampere or newer."""
    if jax.default_backend() != "gpu":
        return False
    # AMD's GPUs tell an architecture, such as gfx90a, instead of a number.
    capability = re.fullmatch(r"(\d+)\.\d+", str(getattr(jax.devices()[0], "compute_capability", "")))
    return capability is not None and int(capability[1]) >= 8


class TransformerLayer(nnx.Module):
    """Pre-norm: `x + attention(norm(x))`, then `x + feed_forward(norm(x))`."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention_norm = LayerNorm(width, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.attention = SelfAttention(config, precision=precision, rngs=rngs)
        self.feed_forward_norm = LayerNorm(width, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.feed_forward_in = _transformer_linear(width, inner, precision=precision, rngs=rngs)
        self.feed_forward_out = _transformer_linear(inner, width, precision=precision, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:  # (b, frames, hidden)
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward_out(gelu(self.feed_forward_in(self.feed_forward_norm(x))))


@functools.partial(jax.jit, static_argnums=0)
def _run(graph: nnx.GraphDef[TransformerLayer], weights: Any, x: jax.Array) -> jax.Array:
    """A layer, traced and lowered once for all that differ in their weights alone; a compiler sees them one by one.

    What was traced is kept: code that is replaced later, as tests do, is not seen before `jax.clear_caches()`.
    """
    return nnx.merge(graph, weights)(x)


def _transformer_linear(in_features: int, out_features: int, *, precision: Precision, rngs: nnx.Rngs | None) -> Linear:
    return Linear(
        in_features,
        out_features,
        kernel_init=initializers.normal(0.02),
        bias_init=initializers.zeros,
        precision=precision,
        rngs=rngs,
    )


class XLSREncoder(nnx.Module):
    """Waveform (b, samples) -> last hidden state (b, frames, hidden_size)."""

    def __init__(self, config: EncoderConfig, *, precision: Precision | str = "float32", rngs: nnx.Rngs | None):
        precision = Precision.of(precision)
        self.feature_extractor = FeatureExtractor(config, precision=precision, rngs=rngs)
        self.feature_projection = FeatureProjection(config, precision=precision, rngs=rngs)
        self.positional_convolution = PositionalConvolution(config, precision=precision, rngs=rngs)
        # Layers of their own rather than one scan over a stack: slicing weights out of a stack costs a CPU more than
        # the longer compile.
        self.layers = nnx.List(
            TransformerLayer(config, precision=precision, rngs=rngs) for _ in range(config.num_hidden_layers)
        )
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.config = config
        self.precision = precision
        # Whether a backward pass computes the layers again rather than keep what they computed.
        self.remat = False

    def __call__(self, waveform: jax.Array, *, tap: Tap = untapped) -> jax.Array:
        """Encode.

        Args:
          waveform: (b, samples) float, 16 kHz for the published weights.
          tap: sees the stages `ssl.*`.

        Raises:
          ValueError: not two axes, or too short for one frame.
        """
        if waveform.ndim != 2:
            raise ValueError(f"expected waveforms of shape (batch, samples), found {waveform.shape}")
        if self.config.num_frames(waveform.shape[1]) < 1:
            raise ValueError(
                f"a waveform of {waveform.shape[1]} samples is too short: the encoder needs at least "
                f"{self.config.num_samples(1)} samples for one frame"
            )
        x = self.feature_extractor(jnp.asarray(waveform, self.precision.dtype))
        x = tap("ssl.feature_extractor", x)
        x = tap("ssl.feature_projection", self.feature_projection(x))
        x = x + tap("ssl.pos_conv_embed", self.positional_convolution(x))
        for index, layer in enumerate(self.layers):
            graph, weights, *others = nnx.split(layer, nnx.Param, ...)
            # What else a layer of the caller's own holds it may change, which `_run` would lose.
            run = layer if jax.tree.leaves(others) else functools.partial(_run, graph, weights)
            x = tap(f"ssl.layer{index}", (jax.checkpoint(run) if self.remat else run)(x))
        return tap("ssl.last_hidden_state", self.norm(x))
