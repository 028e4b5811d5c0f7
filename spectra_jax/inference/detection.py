"""What scoring one recording finds: its score, which windows it rests on, and where it falls below a threshold.

    detection = Scorer("demo")("call.m4a", threshold=-1.2)
    detection.score, detection.label
    for segment in detection.segments:
        segment.start, segment.end

A `Detection` decides nothing without a stated threshold, and states no probability without a calibration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from spectra_jax.data.trial import Label
from spectra_jax.errors import InputError
from spectra_jax.inference.thresholds import Threshold
from spectra_jax.inference.windows import Aggregate

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a recording, as scored.

    Attributes:
      start, end: seconds of the recording. A partial window ends with the recording.
      logits: spoof and bona fide.
      speech_share: the share of its time that is speech, from 0 to 1; None where that was not measured.
      counts: whether it counts for the recording's score: it holds enough speech, and enough of the recording. Where no
        window does, all count.
      flags: `partial` (its samples are repeated until it is full), `silent` (every sample is zero), `little speech`,
        `short` (a partial window at the end that holds less than half a window), `certified` (computed in float64).
    """

    start: float
    end: float
    logits: tuple[float, float]
    speech_share: float | None = None
    counts: bool = True
    flags: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The bona fide logit: higher = more bona fide."""
        return self.logits[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "start": self.start,
            "end": self.end,
            "score": self.score,
            "logits": list(self.logits),
            "speech_share": self.speech_share,
            "counts": self.counts,
            "flags": list(self.flags),
        }


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording without gaps in which every window that counts scores below the threshold.

    Attributes:
      start, end: seconds of the recording.
      score: the mean score of its windows.
      lowest: their lowest score.
      windows: how many there are.
    """

    start: float
    end: float
    score: float
    lowest: float
    windows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "start": self.start,
            "end": self.end,
            "score": self.score,
            "lowest": self.lowest,
            "windows": self.windows,
        }


@dataclass(frozen=True)
class Detection:
    """What was found in one recording: logits or an error, never both and never neither.

    Attributes:
      name: the recording's path or URL, or what it was called.
      logits: spoof and bona fide, aggregated over windows; None where the recording could not be scored.
      seconds: length of the recording at its own rate; None where it could not be read.
      heard_seconds: how much of the recording lies in a window.
      speech_seconds: how much of the recording is speech; None where that was not measured.
      windows: in the order of time, those that do not count included.
      segments: see `Segment`; none without a threshold.
      threshold: below which a score is labelled `spoof`; None where none was stated.
      llr: natural logarithm of p(score | bona fide) / p(score | spoof), by a calibration; None without one.
      p_spoof: P(spoof | score) at `spoof_prior`; None without a calibration.
      spoof_prior: the prior probability of a spoof; None without a calibration.
      hop: seconds between the windows' starts; None where only the first window was scored.
      window_seconds: length of a window.
      aggregate: how the logits follow from those of the windows.
      min_speech: the share of speech from which a window counts.
      detector: of voice activity, with its version; None where speech was not measured.
      sha256: of the file's bytes, as `sha256sum` prints it; None for samples in memory.
      samples_sha256: of the decoded samples, mono, as little-endian float32; None where they could not be read.
      warnings: what a reader of the score has to know, a sentence each.
      error: why the recording could not be scored; None where it was.
    """

    name: str
    logits: tuple[float, float] | None
    seconds: float | None = None
    heard_seconds: float = 0.0
    speech_seconds: float | None = None
    windows: tuple[Window, ...] = ()
    segments: tuple[Segment, ...] = ()
    threshold: Threshold | None = None
    llr: float | None = None
    p_spoof: float | None = None
    spoof_prior: float | None = None
    hop: float | None = None
    window_seconds: float | None = None
    aggregate: Aggregate = "first"
    min_speech: float | None = None
    detector: str | None = None
    sha256: str | None = None
    samples_sha256: str | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.logits is None) == (self.error is None):
            raise ValueError(f"{self.name}: either logits or an error, not {self.logits} and {self.error!r}")

    @property
    def score(self) -> float | None:
        """The bona fide logit: higher = more bona fide. None where the recording could not be scored."""
        return None if self.logits is None else self.logits[1]

    @property
    def label(self) -> Label | None:
        """`spoof` for a score below the threshold, otherwise `bonafide`; None without a threshold or a score."""
        if self.threshold is None or self.score is None:
            return None
        return "spoof" if self.score < self.threshold.value else "bonafide"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Every key is always there; what is not known is None."""
        return {
            "name": self.name,
            "error": self.error,
            "score": self.score,
            "logits": None if self.logits is None else list(self.logits),
            "label": self.label,
            "threshold": None if self.threshold is None else self.threshold.to_dict(),
            "llr": self.llr,
            "p_spoof": self.p_spoof,
            "spoof_prior": self.spoof_prior,
            "seconds": self.seconds,
            "heard_seconds": self.heard_seconds,
            "speech_seconds": self.speech_seconds,
            "detector": self.detector,
            "min_speech": self.min_speech,
            "hop": self.hop,
            "window_seconds": self.window_seconds,
            "aggregate": self.aggregate,
            "windows": [window.to_dict() for window in self.windows],
            "segments": [segment.to_dict() for segment in self.segments],
            "warnings": list(self.warnings),
            "sha256": self.sha256,
            "samples_sha256": self.samples_sha256,
        }

    def to_dataframe(self) -> DataFrame:
        """A pandas DataFrame with a row for each window, and the recording's name in the column `name`.

        Raises:
          InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("to_dataframe needs pandas: pip install pandas") from error
        columns = ("name", "start", "end", "score", "logit_spoof", "speech_share", "counts", "flags")
        rows = [
            (self.name, one.start, one.end, one.score, one.logits[0], one.speech_share, one.counts, ";".join(one.flags))
            for one in self.windows
        ]
        return pd.DataFrame(rows, columns=list(columns))


def find_segments(windows: Sequence[Window], threshold: float) -> tuple[Segment, ...]:
    """The stretches of a recording in which all windows that count score below a threshold.

    Each window represents its stretch of `nearest_stretches`.

    Args:
      windows: in the order of time.
      threshold: below which a score is one of a spoof.
    """
    segments: list[Segment] = []
    run: list[int] = []
    stretches = nearest_stretches(windows)
    for index in range(len(windows) + 1):
        below = index < len(windows) and windows[index].counts and windows[index].score < threshold
        # Where the hop is longer than a window, nothing is known of what lies between two of them.
        adjoins = below and bool(run) and windows[index].start <= windows[run[-1]].end
        if run and not adjoins:
            scores = [windows[index].score for index in run]
            start, end = stretches[run[0]][0], stretches[run[-1]][1]
            segments.append(Segment(start, end, sum(scores) / len(scores), min(scores), len(run)))
            run = []
        if below:
            run.append(index)
    return tuple(segments)


def nearest_stretches(windows: Sequence[Window]) -> list[tuple[float, float]]:
    """For each window the time, (start, end) in seconds, that is nearer to its centre than to another's.

    Windows overlap, and a window with a spoof at its edge says little about its other half. These stretches do not
    overlap. Each lies in its window; the first one begins with its window, and the last one ends with its window.

    Args:
      windows: in the order of time.
    """
    centres = [(window.start + window.end) / 2 for window in windows]
    middles = [(before + after) / 2 for before, after in pairwise(centres)]
    starts = [-math.inf, *middles]
    ends = [*middles, math.inf]
    return [
        (max(window.start, start), min(window.end, end))
        for window, start, end in zip(windows, starts, ends, strict=False)
    ]
