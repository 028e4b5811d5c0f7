"""The windows of samples that the network scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike, NDArray

from spectra_jax.audio.preemphasis import PREEMPHASIS, pre_emphasis, pre_emphasise_blocks
from spectra_jax.audio.resampling import TARGET_RATE, resample, resample_blocks
from spectra_jax.audio.samples import check_finite, to_mono
from spectra_jax.errors import AudioError

NUM_SAMPLES = 64_600

_TOO_LARGE = " once resampled and pre-emphasised (values too large for float32)"


def window(
    audio: Float32[np.ndarray, " samples"], num_samples: int = NUM_SAMPLES, *, start: float = 0.0
) -> Float32[np.ndarray, " num_samples"]:
    """`num_samples` samples of a clip; a shorter clip is repeated until it is long enough, and cut.

    Args:
      audio: (samples,) float32.
      num_samples: at least 1.
      start: where the window begins, from 0 (the clip's start) to below 1: as a fraction of the positions at which a
        window fits into the clip, or of the length of a clip that is repeated.

    Returns:
      (num_samples,) float32, a new array: a view would keep the complete clip in memory.

    Raises:
      AudioError: no samples to repeat.
    """
    if num_samples < 1:
        raise ValueError(f"a window of {num_samples} samples")
    if len(audio) == 0:
        raise AudioError("no samples")
    if len(audio) > num_samples:
        first = int(start * (len(audio) - num_samples + 1))
        return audio[first : first + num_samples].copy()
    return np.tile(np.roll(audio, -int(start * len(audio))), num_samples // len(audio) + 1)[:num_samples]


def prepare(
    audio: ArrayLike,
    sample_rate: int | float,
    *,
    num_samples: int = NUM_SAMPLES,
    preemphasis: float = PREEMPHASIS,
    target_rate: int | float = TARGET_RATE,
) -> Float32[np.ndarray, " num_samples"]:
    """From a decoded clip to the network's window: mono, resampled, pre-emphasised and cut.

    The complete clip is checked for NaN and infinite samples, not only the window, and before it is resampled, which
    would spread one of them over its neighbours.

    Args:
      audio: (samples,) or (samples, channels), floats or integer PCM as `to_mono` takes them; it is not changed.
      sample_rate: of `audio`, in Hz.
      num_samples: length of the window at `target_rate`.
      preemphasis: coefficient of `pre_emphasis`.
      target_rate: in Hz.

    Returns:
      (num_samples,) float32, a new array, all finite.

    Raises:
      AudioError: no samples, NaN or infinite samples, a rate, shape or type that no clip has.
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
    """All windows of a clip that is given in blocks, in memory that does not grow with its length.

    The windows equal, to the bit, those cut out of the complete clip after resampling and pre-emphasis. The last window
    is the last one that the clip fills; a clip shorter than a window is repeated in a single one.

    Args:
      blocks: (samples,) float32 each, mono.
      sample_rate: of the blocks, in Hz.
      hop: seconds from one window's start to the next one's; rounded to whole samples, at least one.
      num_samples, preemphasis, target_rate: as in `prepare`.

    Yields:
      (num_samples,) float32, a new array, all finite.

    Raises:
      AudioError: no samples, a rate that no clip has, or a window with NaN or infinite samples.
    """
    emphasised = pre_emphasise_blocks(resample_blocks(blocks, sample_rate, target_rate), preemphasis)
    for samples in _iter_windows(emphasised, num_samples, max(round(hop * target_rate), 1)):
        check_finite(samples, _TOO_LARGE)
        yield samples


def _iter_windows(blocks: Iterable[NDArray[np.float32]], num_samples: int, hop: int) -> Iterator[NDArray[np.float32]]:
    """Windows of `num_samples` samples of the joined blocks, one every `hop` samples."""
    pending: list[NDArray[np.float32]] = []
    num_pending = skip = 0  # `skip`: samples between windows if the hop is longer than a window
    is_short = True
    for block in blocks:
        if skip >= len(block):
            skip -= len(block)
            continue
        pending.append(block[skip:])
        num_pending += len(block) - skip
        skip = 0
        if num_pending < num_samples:
            continue
        joined, is_short = np.concatenate(pending), False
        starts = range(0, num_pending - num_samples + 1, hop)
        for start in starts:
            yield joined[start : start + num_samples].copy()
        next_start = starts[-1] + hop
        # A copy, since a view would keep all joined blocks in memory.
        pending, skip = [joined[next_start:].copy()], max(next_start - num_pending, 0)
        num_pending = len(pending[0])
    if is_short:
        yield window(np.concatenate([np.empty(0, np.float32), *pending]), num_samples)
