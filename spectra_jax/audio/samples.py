"""Samples as arrays: full scale, channels, values that are not finite."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectra_jax.errors import AudioError

# The most that libsndfile handles; more "channels" than that are samples.
MAX_CHANNELS = 1024

_FULL_SCALE = {np.dtype(np.int8): 2.0**7, np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


def _as_float32(audio: ArrayLike) -> NDArray[np.float32]:
    values = np.asarray(audio)
    if values.dtype.kind == "f":
        # Values beyond float32 become infinite here and are refused as such by `prepare`.
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)
    dtype = values.dtype.newbyteorder("=")
    if dtype in _FULL_SCALE:
        return (values / _FULL_SCALE[dtype]).astype(np.float32)
    if dtype == np.uint8:
        return ((values.astype(np.float32) - 128) / 128).astype(np.float32)
    raise AudioError(f"samples of type {values.dtype} have no agreed full scale: give floats, or 8, 16 or 32-bit PCM")


def to_mono(audio: ArrayLike) -> NDArray[np.float32]:
    """Average the channels; a single channel is handed on as it is.

    Args:
      audio: (samples,) or (samples, channels). Floats are full scale at 1; int8, int16, int32 and uint8 are PCM, and
        come out divided by 2**7, 2**15, 2**31 or, less 128, by 128. 24-bit samples belong in the upper 24 bits of an
        int32, where decoders put them.

    Returns:
      (samples,) float32; not always a copy.

    Raises:
      AudioError: another shape or type, or (channels, samples) the wrong way round.
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
    # Sums beyond float32 become infinite, and infinities of both signs NaN: both are refused by `prepare`.
    with np.errstate(over="ignore", invalid="ignore"):
        return values.mean(axis=1, dtype=np.float32)


def check_finite(audio: NDArray[np.float32], when: str) -> None:
    broken = np.flatnonzero(~np.isfinite(audio))
    if len(broken):
        raise AudioError(describe_not_finite(len(broken), len(audio), f"sample {broken[0]} ({audio[broken[0]]})", when))


def describe_not_finite(num_broken: int, num_samples: int, first: str, when: str = "") -> str | None:
    if not num_broken:
        return None
    return f"{num_broken:,} of {num_samples:,} samples are NaN or infinite{when}; the first is {first}"


def is_silent(audio: NDArray[np.floating]) -> bool:
    """Whether every sample is zero: digital silence. Such a clip gets a score like any other, one that means nothing.

    Give it the window that `prepare` returns: that is all the network gets, however loud the rest of the clip.
    Pre-emphasis makes zeros of zeros and of nothing else, so before and after it the answer is the same. A constant
    offset and the faint noise of a quiet room are no digital silence.
    """
    return not np.any(audio)
