"""The windows of samples that the network scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike, NDArray

from spectra_jax.audio.preemphasis import PREEMPHASIS, pre_emphasis, pre_emphasise_blocks
from spectra_jax.audio.resampling import TARGET_RATE, resample, resample_blocks
from spectra_jax.audio.samples import check_finite, to_mono
from spectra_jax.audio.speech import SpeechTrack
from spectra_jax.errors import AudioError

NUM_SAMPLES = 64_600

# Longer than any recording, and few enough samples for an integer.
_LONGEST_HOP = 1e12
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


class AudioWindow(NamedTuple):
    """A window of a clip, and which of the clip's samples it holds.

    Attributes:
      samples: (num_samples,) float32, pre-emphasised.
      start: index of its first sample in the clip, at the network's rate.
      end: index after its last sample in the clip.
    """

    samples: NDArray[np.float32]
    start: int
    end: int

    @property
    def is_partial(self) -> bool:
        """Whether the clip ends before the window is full, so that its samples are repeated."""
        return self.end - self.start < len(self.samples)


def prepare_windows(
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    *,
    hop: float,
    num_samples: int = NUM_SAMPLES,
    preemphasis: float = PREEMPHASIS,
    target_rate: int = TARGET_RATE,
) -> Iterator[NDArray[np.float32]]:
    """The samples of all windows of a clip that is given in blocks: see `cut_windows`."""
    windows = cut_windows(
        blocks, sample_rate, hop=hop, num_samples=num_samples, preemphasis=preemphasis, target_rate=target_rate
    )
    return (window.samples for window in windows)


def cut_windows(
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    *,
    hop: float,
    num_samples: int = NUM_SAMPLES,
    preemphasis: float = PREEMPHASIS,
    target_rate: int = TARGET_RATE,
    speech: SpeechTrack | None = None,
    speech_only: bool = False,
) -> Iterator[AudioWindow]:
    """All windows of a clip that is given in blocks, in memory that does not grow with its length.

    The windows equal, to the bit, those cut out of the complete clip after resampling and pre-emphasis. Where the last
    complete window ends before the clip does, a partial window follows: the samples from its start to the clip's end
    are repeated until it is full. A clip shorter than a window has one partial window.

    Args:
      blocks: (samples,) float32 each, mono.
      sample_rate: of the blocks, in Hz.
      hop: seconds from one window's start to the next one's; rounded to whole samples, at least one. Infinite for the
        first window alone.
      num_samples, preemphasis, target_rate: as in `prepare`.
      speech: given all samples at the target rate, before pre-emphasis. When a window is yielded, it has been given
        those of the window.
      speech_only: let the first window start where `speech` finds the first speech; a clip in which it finds none has
        its first window alone.

    Yields:
      Windows in order; their samples are new arrays, all finite.

    Raises:
      AudioError: no samples, a rate that no clip has, or a window with NaN or infinite samples.
    """
    resampled = resample_blocks(blocks, sample_rate, target_rate)
    emphasised = pre_emphasise_blocks(resampled if speech is None else speech.observe(resampled), preemphasis)
    step = max(round(min(hop, _LONGEST_HOP) * target_rate), 1)
    if speech is not None and speech_only:
        windows = _iter_windows_from_onset(emphasised, speech, num_samples, step)
    else:
        windows = _iter_windows(emphasised, num_samples, step)
    for found in windows:
        check_finite(found.samples, _TOO_LARGE)
        yield found


def _iter_windows_from_onset(
    blocks: Iterable[NDArray[np.float32]], speech: SpeechTrack, num_samples: int, hop: int
) -> Iterator[AudioWindow]:
    """The windows from the first speech on, or the first window of a clip without speech."""
    blocks = iter(blocks)
    first_window = np.empty(0, np.float32)
    recent = np.empty(0, np.float32)  # what may follow the onset, which is found a little late
    num_samples_seen = 0
    for block in blocks:
        num_samples_seen += len(block)
        if len(first_window) < num_samples:
            first_window = np.concatenate([first_window, block])[:num_samples]
        recent = np.concatenate([recent, block])
        if speech.onset is not None:
            break
        recent = recent[-speech.onset_delay :].copy()
    if speech.onset is None:
        yield AudioWindow(window(first_window, num_samples), 0, len(first_window))
        return
    first = num_samples_seen - len(recent)
    start = max(speech.onset, first)
    for found in _iter_windows(chain([recent[start - first :]], blocks), num_samples, hop):
        yield found._replace(start=found.start + start, end=found.end + start)


def _iter_windows(blocks: Iterable[NDArray[np.float32]], num_samples: int, hop: int) -> Iterator[AudioWindow]:
    """Windows of `num_samples` samples of the joined blocks, one every `hop` samples, and a partial one at the end."""
    pending: list[NDArray[np.float32]] = []  # the samples from `start` on
    start = end = 0  # the index of the next window's first sample, and after the last sample so far
    for block in blocks:
        end += len(block)
        if end <= start:  # between two windows, where the hop is longer than a window
            continue
        pending.append(block[max(start - (end - len(block)), 0) :])
        if end - start < num_samples:
            continue
        joined, first = np.concatenate(pending), start
        while end - start >= num_samples:
            yield AudioWindow(joined[start - first : start - first + num_samples].copy(), start, start + num_samples)
            start += hop
        # A copy, since a view would keep all joined blocks in memory.
        pending = [joined[start - first :].copy()] if start < end else []
    last_end = start - hop + num_samples
    if start == 0 or (start < end and last_end < end):
        yield AudioWindow(window(np.concatenate([np.empty(0, np.float32), *pending]), num_samples), start, end)
