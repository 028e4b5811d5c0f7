"""From waveforms to the local features of the encoder, and their projection to the transformer's width."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Float, PRNGKeyArray

from spectra_jax.model.activations import gelu
from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.conv import Conv
from spectra_jax.model.encoder.augment import dropout
from spectra_jax.model.linear import Linear
from spectra_jax.model.norms import LayerNorm
from spectra_jax.model.parameters import initial_value, uniform_fan_in
from spectra_jax.model.platform import platform_dependent
from spectra_jax.model.precision import Precision
from spectra_jax.model.symbolic import is_symbolic

# Frames that a CPU extracts at a time: 1.4 s, and 9 MB after the first layer in float32.
TILE_FRAMES = 72

# Fixed in the reference; layer_norm_eps does not apply to the feature extractor.
_EPSILON = 1e-5


class ChannelNorm(nnx.Module):
    """Each channel normalized over all frames of its clip, padding included: group norm with a group per channel."""

    def __init__(self, width: int, *, precision: Precision, rngs: nnx.Rngs | None):
        self.scale = nnx.Param(initial_value(rngs, initializers.ones, (width,), precision.dtype))
        self.bias = nnx.Param(initial_value(rngs, initializers.zeros, (width,), precision.dtype))

    def __call__(self, x: Float[Array, "batch frames width"]) -> Float[Array, "batch frames width"]:
        centred = x - jnp.mean(x, axis=1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=1, keepdims=True)
        return centred * (lax.rsqrt(variance + _EPSILON) * self.scale[...]) + self.bias[...]


class FeatureExtractorLayer(nnx.Module):
    """One strided convolution, a norm, GELU.

    The norm is a layer norm over channels in every layer, or with `feat_extract_norm="group"` a group norm over
    frames in the first layer and none in the others.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        *,
        is_first: bool,
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
        self.norm = self._norm(out_channels, is_first, config, precision, rngs)

    @staticmethod
    def _norm(
        channels: int, is_first: bool, config: EncoderConfig, precision: Precision, rngs: nnx.Rngs | None
    ) -> LayerNorm | ChannelNorm | None:
        if config.feat_extract_norm == "layer":
            return LayerNorm(channels, _EPSILON, precision=precision, rngs=rngs)
        return ChannelNorm(channels, precision=precision, rngs=rngs) if is_first else None

    def __call__(
        self, x: Float[Array, "batch time inputs"], *, by_taps: bool = False
    ) -> Float[Array, "batch out_time outputs"]:
        """The layer's output; `by_taps` selects the form of the convolution, see `Conv.by_taps`."""
        x = self.conv.by_taps(x) if by_taps else self.conv(x)
        return gelu(x if self.norm is None else self.norm(x))


class FeatureExtractor(nnx.Module):
    """Waveforms -> local features, one frame for every 320 samples in the published network."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        shapes = zip((1, *config.conv_dim), config.conv_dim, config.conv_kernel, config.conv_stride, strict=False)
        self.layers = nnx.List(
            FeatureExtractorLayer(*shape, is_first=index == 0, config=config, precision=precision, rngs=rngs)
            for index, shape in enumerate(shapes)
        )
        self.config = config
        # True until `train()`: the backward pass through a loop over convolutions is many times slower on a CPU.
        self.deterministic = True

    def __call__(self, waveform: Float[Array, "batch samples"]) -> Float[Array, "batch frames channels"]:
        # A group norm needs all frames of a clip, and tiles need a number of samples that is known while tracing.
        no_tiles = self.config.feat_extract_norm == "group" or is_symbolic(waveform.shape[1])
        if not self.deterministic or no_tiles:
            return self._extract(waveform)
        return platform_dependent(waveform, cpu=self._extract_by_tiles, default=self._extract_by_taps)

    def _extract(self, waveform: Array) -> Array:
        x = waveform[..., None]
        for layer in self.layers:
            x = layer(x)
        return x

    def _extract_by_taps(self, waveform: Array) -> Array:
        """The same features, without the result of the first convolution in memory, half of all that is written."""
        first, *others = self.layers
        x = first(waveform[..., None], by_taps=True)
        for layer in others:
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
    """Layer norm (without `feat_proj_layer_norm`: none), then a linear map to the transformer's width."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        channels = config.conv_dim[-1]
        init = uniform_fan_in(channels)
        self.norm = (
            LayerNorm(channels, config.layer_norm_eps, precision=precision, rngs=rngs)
            if config.feat_proj_layer_norm
            else None
        )
        self.linear = Linear(
            channels, config.hidden_size, kernel_init=init, bias_init=init, precision=precision, rngs=rngs
        )
        self.dropout_rate = config.feat_proj_dropout

    def __call__(
        self, x: Float[Array, "batch frames channels"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch frames hidden"]:
        return dropout(self.linear(x if self.norm is None else self.norm(x)), self.dropout_rate, key)
