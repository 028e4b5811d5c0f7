"""Which windows of a clip are scored, and how their logits become the clip's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

Aggregate = Literal["first", "mean", "min", "median"]


@dataclass(frozen=True)
class WindowPolicy:
    """Which windows of a clip are scored, and how their scores are combined.

    Attributes:
      hop: seconds from one window's start to the next one's; None for the first window alone, for which the network was
        trained. The last window is the last complete one; a clip shorter than a window has one.
      aggregate: the clip's logits: those of its first window, the mean or the median over all windows, or those of the
        window with the lowest score ("min", for a clip of which only a part may be spoofed).

    Raises:
      ValueError: an unknown aggregate, or a hop that is not a positive finite number.
    """

    hop: float | None = None
    aggregate: Aggregate = "first"

    def __post_init__(self) -> None:
        if self.aggregate not in get_args(Aggregate):
            raise ValueError(f"aggregate {self.aggregate!r} is none of {', '.join(get_args(Aggregate))}")
        if self.hop is not None and not (0 < self.hop < math.inf):
            raise ValueError(f"hop = {self.hop}: seconds above 0 are expected")


FIRST_WINDOW = WindowPolicy()


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


def aggregate_logits(
    logits: Float[np.ndarray, "windows 2"], aggregate: Aggregate
) -> tuple[Float[np.ndarray, " 2"], slice]:
    """A clip's logits from those of its windows, and which windows they come from."""
    match aggregate:
        case "mean":
            return logits.mean(axis=0), slice(None)
        case "median":
            return np.median(logits, axis=0), slice(None)
        case "min":
            chosen = int(logits[:, 1].argmin())
        case "first":
            chosen = 0
    return logits[chosen], slice(chosen, chosen + 1)
