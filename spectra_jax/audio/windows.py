"""The windows of samples that the network takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectra_jax.audio.errors import AudioError
from spectra_jax.audio.preemphasis import PREEMPHASIS, pre_emphasis
from spectra_jax.audio.resampling import TARGET_RATE, resample
from spectra_jax.audio.samples import check_finite, to_mono

NUM_SAMPLES = 64_600


def window(audio: NDArray[np.float32], num_samples: int = NUM_SAMPLES) -> NDArray[np.float32]:
    """The first `num_samples` samples; a shorter clip is repeated until it is long enough, and cut.

    Args:
      audio: (samples,) float32.
      num_samples: wanted; at least 1.

    Returns:
      (num_samples,) float32, a new array: a view would hold on to the whole clip.

    Raises:
      AudioError: no samples to repeat.
    """
    if num_samples < 1:
        raise ValueError(f"a window of {num_samples} samples")
    if len(audio) == 0:
        raise AudioError("no samples")
    if len(audio) >= num_samples:
        return audio[:num_samples].copy()
    return np.tile(audio, num_samples // len(audio) + 1)[:num_samples]


def prepare(
    audio: ArrayLike,
    sample_rate: int,
    *,
    num_samples: int = NUM_SAMPLES,
    preemphasis: float = PREEMPHASIS,
    target_rate: int = TARGET_RATE,
) -> NDArray[np.float32]:
    """The whole way from a clip as decoded to what the network takes.

    NaN and infinite samples are looked for in the whole clip, not only in the part that is heard, and before it is
    resampled, which would smear one of them over its neighbours.

    Args:
      audio: (samples,) or (samples, channels), floats or integer PCM as `to_mono` takes them; left as it is.
      sample_rate: of `audio`, in Hz.
      num_samples: length of the window at `target_rate`.
      preemphasis: coefficient of `pre_emphasis`.
      target_rate: in Hz.

    Returns:
      (num_samples,) float32, a new array, all finite.

    Raises:
      AudioError: no samples, NaN or infinite samples, an impossible rate, shape or type.
    """
    mono = to_mono(audio)
    if len(mono) == 0:
        raise AudioError("no samples")
    check_finite(mono, "")
    samples = window(pre_emphasis(resample(mono, sample_rate, target_rate), preemphasis), num_samples)
    check_finite(samples, " once resampled and pre-emphasised (values too large for float32)")
    return samples
