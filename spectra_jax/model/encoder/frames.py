"""Samples and frames: which frames of a padded clip are valid, when they are, and the normalization of waveforms."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Integer

from spectra_jax.model.config import EncoderConfig

_Lengths = Integer[Array | np.ndarray, " batch"]


def frame_lengths(config: EncoderConfig, lengths: _Lengths) -> Int[Array, " batch"]:
    """The number of frames of clips of `lengths` samples, which may be traced; 0 for clips shorter than one frame."""
    frames = jnp.asarray(lengths, jnp.int32)
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        frames = jnp.maximum((frames - kernel) // stride + 1, 0)
    return frames


def frame_mask(config: EncoderConfig, lengths: _Lengths, num_frames: int) -> Bool[Array, "batch {num_frames}"]:
    """Whether each frame of a padded batch is valid, that is computed from the samples of its clip only.

    Args:
      lengths: samples of each clip before padding; may be traced.
      num_frames: frames of the padded batch, `config.num_frames(samples)`.
    """
    return jnp.arange(num_frames, dtype=jnp.int32) < frame_lengths(config, lengths)[:, None]


def frame_times(config: EncoderConfig, num_frames: int, sample_rate: int = 16000) -> Float[np.ndarray, " {num_frames}"]:
    """The time of each frame in seconds from the start of the clip: the centre of its receptive field.

    A frame of the published networks is computed from 400 samples and the next one starts 320 samples later: at
    16 kHz the times are 12.5 ms, 32.5 ms, 52.5 ms and so on. The transformer also uses the other frames.
    """
    first = config.num_samples(1) / 2
    hop = math.prod(config.conv_stride)
    return (first + hop * np.arange(num_frames)) / sample_rate


def normalize_waveform(
    x: Float[Array | np.ndarray, "batch samples"], lengths: _Lengths | None = None
) -> Float[Array, "batch samples"]:
    """Each clip with zero mean and unit variance over its valid samples, and zeros as padding.

    This is what `Wav2Vec2FeatureExtractor` of transformers does with `do_normalize=True`.

    Args:
      x: waveforms of any scale.
      lengths: valid samples of each clip; all by default. May be traced.
    """
    x = jnp.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"expected waveforms of shape (batch, samples), found {x.shape}")
    valid = None
    if lengths is not None:
        valid = jnp.arange(x.shape[1], dtype=jnp.int32) < jnp.asarray(lengths, jnp.int32)[:, None]
    mean = jnp.mean(x, axis=1, keepdims=True, where=valid)
    centred = x - mean
    variance = jnp.mean(jnp.square(centred), axis=1, keepdims=True, where=valid)
    normalized = centred / jnp.sqrt(variance + 1e-7)
    return normalized if valid is None else jnp.where(valid, normalized, 0)
