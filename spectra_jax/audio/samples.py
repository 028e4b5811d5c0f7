"""Arrays of samples: conversion to float32, channels, values that are not finite, silence."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from numpy.typing import ArrayLike, NDArray

from spectra_jax.errors import AudioError

MAX_CHANNELS = 1024
"""The most that libsndfile handles. An array with more "channels" has its axes in the wrong order."""

_FULL_SCALE = {np.dtype(np.int8): 2.0**7, np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


def _as_float32(audio: ArrayLike) -> NDArray[np.float32]:
    values = np.asarray(audio)
    if values.dtype.kind == "f":
        # Values beyond float32 become infinite, and `prepare` raises an error for those.
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)
    dtype = values.dtype.newbyteorder("=")
    if dtype in _FULL_SCALE:
        return (values / _FULL_SCALE[dtype]).astype(np.float32)
    if dtype == np.uint8:
        return ((values.astype(np.float32) - 128) / 128).astype(np.float32)
    raise AudioError(
        f"unsupported sample type {values.dtype}, whose full scale is unknown: give floats, or 8, 16 or 32-bit PCM"
    )


def to_mono(audio: ArrayLike) -> Float32[np.ndarray, " samples"]:
    """Average the channels; a single channel is returned as it is.

    Args:
      audio: (samples,) or (samples, channels). Full scale is 1 for floats. int8, int16, int32 and uint8 are
        PCM: they are divided by 2**7, 2**15, 2**31 or, after 128 is subtracted, by 128. 24-bit samples have to be in
        the upper 24 bits of an int32, where decoders put them.

    Returns:
      (samples,) float32; not always a copy.

    Raises:
      AudioError: another shape or type, or the shape (channels, samples).
    """
    values = _as_float32(audio)
    if values.ndim == 1:
        return values
    if values.ndim != 2:
        raise AudioError(f"audio of shape {values.shape}: expected (samples,) or (samples, channels)")
    channels = values.shape[1]
    if channels > MAX_CHANNELS:
        raise AudioError(f"audio of shape {values.shape} has {channels:,} channels: is it (channels, samples)?")
    if channels == 0:
        raise AudioError(f"audio of shape {values.shape} has no channel")
    if channels == 1:
        return values[:, 0]
    # Sums beyond float32 become infinite, and infinities of both signs NaN: `prepare` raises an error for both.
    with np.errstate(over="ignore", invalid="ignore"):
        mono: NDArray[np.float32] = values.mean(axis=1, dtype=np.float32)
    return mono


def check_finite(audio: NDArray[np.float32], when: str) -> None:
    """Raise AudioError, with `when` in its message, if samples are NaN or infinite."""
    indices = np.flatnonzero(~np.isfinite(audio))
    if len(indices):
        first = f"sample {indices[0]} ({audio[indices[0]]})"
        raise AudioError(describe_not_finite(len(indices), len(audio), first, when))


def describe_not_finite(num_not_finite: int, num_samples: int, first: str, when: str = "") -> str | None:
    """How many samples are NaN or infinite, and the first of them, as a sentence; None if none is."""
    if not num_not_finite:
        return None
    return f"{num_not_finite:,} of {num_samples:,} samples are NaN or infinite{when}; the first is {first}"


def is_silent(audio: Float[np.ndarray, ...]) -> bool:
    """Whether every sample is zero (digital silence). Such a clip is scored like any other; the score means nothing.

    Call it with the window that `prepare` returns: the network gets nothing else, however loud the rest of the clip is.
    Pre-emphasis makes zeros of zeros only, so the result is the same before and after it. A constant offset, or the
    faint noise of a quiet room, is not digital silence.
    """
    return not np.any(audio)
