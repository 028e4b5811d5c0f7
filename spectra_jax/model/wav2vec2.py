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
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Float

from spectra_jax.model.activations import gelu
from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.conv import Conv
from spectra_jax.model.hooks import StageHook, no_hook
from spectra_jax.model.linear import Linear
from spectra_jax.model.norms import LayerNorm
from spectra_jax.model.parameters import uniform_fan_in
from spectra_jax.model.platform import platform_dependent, target_platform
from spectra_jax.model.precision import Precision
from spectra_jax.model.symbolic import is_outside, is_symbolic, num_frames

# Frames that a CPU extracts at a time: 1.4 s, and 9 MB after the first layer in float32.
TILE_FRAMES = 72


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
        # Fixed in the reference; layer_norm_eps does not apply here.
        self.norm = LayerNorm(out_channels, 1e-5, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "batch time inputs"]) -> Float[Array, "batch out_time outputs"]:
        return gelu(self.norm(self.conv(x)))


class FeatureExtractor(nnx.Module):
    """Waveforms -> local features, one frame for every 320 samples in the published network."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        shapes = zip((1, *config.conv_dim), config.conv_dim, config.conv_kernel, config.conv_stride, strict=False)
        self.layers = nnx.List(
            FeatureExtractorLayer(*shape, config=config, precision=precision, rngs=rngs) for shape in shapes
        )
        self.config = config
        # True until `train()`: the backward pass through a loop over convolutions is many times slower on a CPU.
        self.deterministic = True

    def __call__(self, waveform: Float[Array, "batch samples"]) -> Float[Array, "batch frames channels"]:
        # Tiles need a number of samples that is known while tracing.
        if not self.deterministic or is_symbolic(waveform.shape[1]):
            return self._extract(waveform)
        return platform_dependent(waveform, cpu=self._extract_by_tiles, default=self._extract)

    def _extract(self, waveform: Array) -> Array:
        x = waveform[..., None]
        for layer in self.layers:
            x = layer(x)
        return x

    def _extract_by_tiles(self, waveform: Array) -> Array:
        """The same features, computed for `TILE_FRAMES` frames at a time.

        The results of the first layers are hundreds of times the size of the waveform, and a CPU is faster if they
        stay in its cache and need no new memory. A frame depends on its own samples only, so that only the samples
        that two tiles share are computed twice.
        """
        frames = self.config.num_frames(waveform.shape[1])
        tiles = -(-frames // TILE_FRAMES)
        length = -(-frames // tiles)
        hop = math.prod(self.config.conv_stride)
        missing = self.config.num_samples(tiles * length) - waveform.shape[1]
        waveform = jnp.pad(waveform, ((0, 0), (0, max(missing, 0))))
        starts = length * hop * np.arange(tiles)
        x = waveform[:, starts[:, None] + np.arange(self.config.num_samples(length))]  # (b, tiles, samples)
        x = lax.map(lambda tile: self._extract(tile[None])[0], x.reshape(-1, x.shape[-1]))
        return x.reshape(waveform.shape[0], tiles * length, -1)[:, :frames]


class FeatureProjection(nnx.Module):
    """Layer norm, then a linear map to the transformer's width."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        channels = config.conv_dim[-1]
        init = uniform_fan_in(channels)
        self.norm = LayerNorm(channels, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.linear = Linear(
            channels, config.hidden_size, kernel_init=init, bias_init=init, precision=precision, rngs=rngs
        )

    def __call__(self, x: Float[Array, "batch frames channels"]) -> Float[Array, "batch frames hidden"]:
        return self.linear(self.norm(x))


class PositionalConvolution(nnx.Module):
    """Relative position embedding: a wide grouped convolution. Its kernel is stored with the weight norm applied."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        kernel_size = config.num_conv_pos_embeddings
        self.conv = Conv(
            config.hidden_size,
            config.hidden_size,
            (kernel_size,),
            # An even kernel with half of its size as padding on both sides gives one frame too many. The reference
            # drops the last one, which is the same as less padding at the end.
            padding=((kernel_size // 2, kernel_size // 2 - (kernel_size % 2 == 0)),),
            groups=config.num_conv_pos_embedding_groups,
            kernel_init=initializers.normal(2 * math.sqrt(1 / (kernel_size * config.hidden_size))),
            bias_init=initializers.zeros,
            precision=precision,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "batch frames hidden"]) -> Float[Array, "batch frames hidden"]:
        return gelu(self.conv(x))


class SelfAttention(nnx.Module):
    """Multi-head self-attention over all frames, no mask."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        def project() -> Linear:
            return _transformer_linear(config.hidden_size, config.hidden_size, precision=precision, rngs=rngs)

        self.query, self.key, self.value, self.out = project(), project(), project(), project()
        self.num_heads = config.num_attention_heads
        self.precision = precision

    def __call__(self, x: Float[Array, "batch frames hidden"]) -> Float[Array, "batch frames hidden"]:
        heads = (*x.shape[:-1], self.num_heads, x.shape[-1] // self.num_heads)  # (b, frames, heads, d)

        def split_heads(projected: Array) -> Array:  # (b, frames, hidden) -> (b, heads, frames, d)
            # Heads first, so that each of the many small products reads memory in order: twice as fast on a CPU.
            return projected.astype(self.precision.operand_dtype).reshape(heads).swapaxes(1, 2)

        query, key, value = self.query(x) * heads[-1] ** -0.5, self.key(x), self.value(x)
        if self.precision.operand_dtype == jnp.bfloat16 and has_cudnn_attention():
            # One kernel, which never writes the attention weights to memory. It takes no wider operands.
            operands = (projected.astype(jnp.bfloat16).reshape(heads) for projected in (query, key, value))
            attended = jax.nn.dot_product_attention(*operands, scale=1.0, implementation="cudnn")
        else:
            query, key, value = split_heads(query), split_heads(key), split_heads(value)
            logits = self.precision.einsum("bhqd,bhkd->bhqk", query, key)
            weights = jax.nn.softmax(logits, axis=-1)
            attended = self.precision.einsum("bhqk,bhkd->bhqd", weights, value).swapaxes(1, 2)
        return self.out(attended.reshape(x.shape))


def has_cudnn_attention() -> bool:
    """Whether JAX runs on NVIDIA GPUs for which cuDNN has a fused attention kernel: Ampere or newer.

    A program that is traced to run elsewhere (`for_platform`) does without it: not every GPU has the kernel.
    """
    if target_platform() is not None or jax.default_backend() != "gpu":
        return False
    # AMD GPUs have an architecture such as gfx90a instead of a number.
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

    def __call__(self, x: Float[Array, "batch frames hidden"]) -> Float[Array, "batch frames hidden"]:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward_out(gelu(self.feed_forward_in(self.feed_forward_norm(x))))


@functools.partial(jax.jit, static_argnums=0)
def _run_layer(graph: nnx.GraphDef[TransformerLayer], weights: Any, x: Array) -> Array:
    """One layer. All layers that differ in their weights only are traced and lowered once.

    JAX caches the trace: after code has been replaced, as in tests, call `jax.clear_caches()`.
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
    """Waveforms -> last hidden state."""

    def __init__(self, config: EncoderConfig, *, precision: Precision | str = "float32", rngs: nnx.Rngs | None):
        precision = Precision.of(precision)
        self.feature_extractor = FeatureExtractor(config, precision=precision, rngs=rngs)
        self.feature_projection = FeatureProjection(config, precision=precision, rngs=rngs)
        self.positional_convolution = PositionalConvolution(config, precision=precision, rngs=rngs)
        # Separate layers rather than a scan over stacked weights: slicing the weights costs more time on a CPU than
        # the longer compilation.
        self.layers = nnx.List(
            TransformerLayer(config, precision=precision, rngs=rngs) for _ in range(config.num_hidden_layers)
        )
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.config = config
        self.precision = precision
        # Whether a backward pass computes the layers again instead of storing their intermediate values.
        self.remat = False

    def __call__(
        self, waveform: Float[Array | np.ndarray, "batch samples"], *, hook: StageHook = no_hook
    ) -> Float[Array, "batch frames hidden"]:
        """Encode waveforms.

        Args:
          waveform: float, at 16 kHz for the published weights.
          hook: called with the stages `ssl.*`, and may replace them.

        Raises:
          ValueError: not two axes, or too short for one frame.
        """
        if waveform.ndim != 2:
            raise ValueError(f"expected waveforms of shape (batch, samples), found {waveform.shape}")
        if is_outside(num_frames(self.config, waveform.shape[1]), 1):
            raise ValueError(
                f"a waveform of {waveform.shape[1]} samples is too short: the encoder needs at least "
                f"{self.config.num_samples(1)} samples for one frame"
            )
        x = self.feature_extractor(jnp.asarray(waveform, self.precision.dtype))
        x = hook("ssl.feature_extractor", x)
        x = hook("ssl.feature_projection", self.feature_projection(x))
        x = x + hook("ssl.pos_conv_embed", self.positional_convolution(x))
        for index, layer in enumerate(self.layers):
            graph, weights, *others = nnx.split(layer, nnx.Param, ...)
            # A layer of a class of the user's own may hold and change other state, which `_run_layer` would lose.
            run = layer if jax.tree.leaves(others) else functools.partial(_run_layer, graph, weights)
            x = hook(f"ssl.layer{index}", (jax.checkpoint(run) if self.remat else run)(x))
        return hook("ssl.last_hidden_state", self.norm(x))
