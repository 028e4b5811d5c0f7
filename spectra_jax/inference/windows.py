"""Which windows of a clip are scored, and how their logits become the clip's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Aggregate = Literal["first", "mean", "min", "median", "speech-mean"]

MIN_SPEECH = 0.25
"""The share of speech from which a window counts, unless another is stated."""


def _known_aggregate(text: str) -> Aggregate:
    if text not in get_args(Aggregate):
        raise ValueError(f"aggregate {text!r} is none of {', '.join(get_args(Aggregate))}")
    return cast(Aggregate, text)


@dataclass(frozen=True)
class WindowPolicy:
    """Which windows of a clip are scored, and how their scores are combined.

    Attributes:
      hop: seconds from one window's start to the next one's; None for the first window alone, for which the network was
        trained. Where the last complete window ends before the clip, a partial one follows, in which the clip's last
        samples are repeated; a clip shorter than a window has one partial window.
      aggregate: the clip's logits: those of its first window, the mean or the median over all windows, those of the
        window with the lowest score ("min", for a clip of which only a part may be spoofed), or the mean over the
        windows that count ("speech-mean", see `min_speech`; over all windows where none counts).
      min_speech: the share of a window's samples that must be speech for it to count. A partial window at a clip's end
        that holds less than half a window does not count either.
      speech_only: let the first window start at the first speech.

    Raises:
      ValueError: an unknown aggregate, or a hop or share that is out of range.
    """

    hop: float | None = None
    aggregate: Aggregate = "first"
    min_speech: float = MIN_SPEECH
    speech_only: bool = False

    def __post_init__(self) -> None:
        _known_aggregate(self.aggregate)
        if self.hop is not None and not (0 < self.hop < math.inf):
            raise ValueError(f"hop = {self.hop}: seconds above 0 are expected")
        if not 0 <= self.min_speech <= 1:
            raise ValueError(f"min_speech = {self.min_speech}: a share from 0 to 1 is expected")

    @property
    def needs_detector(self) -> bool:
        """Whether the scores depend on where the speech is."""
        return self.aggregate == "speech-mean" or self.speech_only

    def identity(self) -> dict[str, Any]:
        """What the scores depend on, as plain values for a run's record."""
        identity: dict[str, Any] = {"hop": self.hop, "aggregate": self.aggregate}
        if self.hop is not None:
            # Earlier versions had no partial window at the end of a clip.
            identity["partial"] = True
        if self.needs_detector:
            identity |= {"min_speech": self.min_speech, "speech_only": self.speech_only}
        return identity


FIRST_WINDOW = WindowPolicy()
"""The first window alone, as score files of the published network have it."""


def parse_window_policy(
    windows: str, aggregate: str | None = None, *, min_speech: float = MIN_SPEECH, speech_only: bool = False
) -> WindowPolicy:
    """The policy that options or parameters state as text.

    Args:
      windows: `hop=SECONDS`, or `first` for the first window alone.
      aggregate: see `WindowPolicy`; otherwise `speech-mean`, or `first` where only the first window is scored.
      min_speech, speech_only: see `WindowPolicy`.

    Raises:
      ValueError: neither `hop=SECONDS` nor `first`, or an aggregate that does not go with it. Further ones as in
        `WindowPolicy`.
    """
    hop: float | None = None
    if windows != "first":
        try:
            hop = float(windows.removeprefix("hop="))
        except ValueError:
            raise ValueError(f"windows {windows!r}: neither hop=SECONDS, such as hop=0.5, nor first") from None
    elif aggregate not in (None, "first"):
        raise ValueError(f"aggregate {aggregate!r} needs several windows, such as hop=0.5, instead of the first alone")
    chosen = _known_aggregate(aggregate or ("first" if hop is None else "speech-mean"))
    return WindowPolicy(hop, chosen, min_speech, speech_only)


class WindowScores(NamedTuple):
    """What the network computes for one window.

    Attributes:
      logits: spoof and bona fide.
      rank_gaps: each pool's smallest; empty without diagnostics.
      certified: whether they were computed in float64 because of a near tie.
    """

    logits: Float[np.ndarray, " 2"]
    rank_gaps: Float[np.ndarray, " pools"]
    certified: bool


@dataclass(frozen=True, slots=True)
class WindowSpan:
    """Which part of a clip a window holds, and what is known of it before it is scored.

    Attributes:
      start, end: indices of the clip's samples, at the network's rate.
      is_partial: whether its samples are repeated, since the clip ends before the window is full.
      is_silent: whether every sample is zero.
      speech_share: the share of its samples in `start` to `end` that hold speech; None where that was not measured.
      is_short: whether it is at the clip's end and holds less than half a window.
      counts: whether it holds enough speech, and enough of the clip, for aggregates over the windows that count.
    """

    start: int
    end: int
    is_partial: bool
    is_silent: bool
    speech_share: float | None = None
    is_short: bool = False
    counts: bool = True


def aggregate_logits(
    logits: Float[np.ndarray, "windows 2"], aggregate: Aggregate, counts: Sequence[bool] | None = None
) -> tuple[Float[np.ndarray, " 2"], NDArray[np.intp]]:
    """A clip's logits from those of its windows, and the indices of the windows they come from.

    Args:
      logits: of all windows.
      aggregate: see `WindowPolicy`.
      counts: for each window whether it counts; all do otherwise.
    """
    every = np.arange(len(logits))
    match aggregate:
        case "mean":
            return logits.mean(axis=0), every
        case "median":
            return np.median(logits, axis=0), every
        case "speech-mean":
            counted = every if counts is None else np.flatnonzero(counts)
            chosen = counted if len(counted) else every
            return logits[chosen].mean(axis=0), chosen
        case "min":
            index = int(logits[:, 1].argmin())
        case "first":
            index = 0
    return logits[index], every[index : index + 1]
