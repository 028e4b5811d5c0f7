"""The windows of samples that the network takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectra_jax.audio.preemphasis import PREEMPHASIS, pre_emphasis, pre_emphasise_blocks
from spectra_jax.audio.resampling import TARGET_RATE, resample, resample_blocks
from spectra_jax.audio.samples import check_finite, to_mono
from spectra_jax.errors import AudioError

NUM_SAMPLES = 64_600

_TOO_LARGE = " once resampled and pre-emphasised (values too large for float32)"


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

    NaN and infinite samples are looked for in the whole clip, not only in the window, and before it is
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
    check_finite(samples, _TOO_LARGE)
    return samples


def prepare_windows(
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    *,
    hop: float,
    num_samples: int = NUM_SAMPLES,
    preemphasis: float = PREEMPHASIS,
    target_rate: int = TARGET_RATE,
) -> Iterator[NDArray[np.float32]]:
    """All windows of a clip that comes in blocks, in memory that does not grow with its length.

    Each is cut out of the whole clip, resampled and pre-emphasised, to the bit. The last one is the last that the clip
    fills; a clip shorter than a window has one, which repeats it.

    Args:
      blocks: (samples,) float32 each, mono.
      sample_rate: of the blocks, in Hz.
      hop: seconds from one window's start to the next one's; rounded to whole samples, at least one.
      num_samples, preemphasis, target_rate: as in `prepare`.

    Yields:
      (num_samples,) float32, a new array, all finite.

    Raises:
      AudioError: no samples, an impossible rate, or a window with NaN or infinite samples.
    """
    emphasised = pre_emphasise_blocks(resample_blocks(blocks, sample_rate, target_rate), preemphasis)
    for samples in _cut(emphasised, num_samples, max(round(hop * target_rate), 1)):
        check_finite(samples, _TOO_LARGE)
        yield samples


def _cut(blocks: Iterable[NDArray[np.float32]], num_samples: int, hop: int) -> Iterator[NDArray[np.float32]]:
    """Windows of blocks, one every `hop` samples."""
    held: list[NDArray[np.float32]] = []
    num_held = skip = 0  # `skip`: samples between windows that lie further apart than they are long
    short = True
    for block in blocks:
        if skip >= len(block):
            skip -= len(block)
            continue
        held.append(block[skip:])
        num_held += len(block) - skip
        skip = 0
        if num_held < num_samples:
            continue
        joined, short = np.concatenate(held), False
        starts = range(0, num_held - num_samples + 1, hop)
        for start in starts:
            yield joined[start : start + num_samples].copy()
        following = starts[-1] + hop
        # A copy, since a view would keep all that was joined.
        held, skip = [joined[following:].copy()], max(following - num_held, 0)
        num_held = len(held[0])
    if short:
        yield window(np.concatenate([np.empty(0, np.float32), *held]), num_samples)
