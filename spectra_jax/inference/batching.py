"""Windows of many clips as batches for the network, and their way through an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from spectra_jax.inference.decoding import DecodedTrial, Window
from spectra_jax.inference.engine import Engine
from spectra_jax.inference.windows import WindowScores


def group_windows(windows: Iterable[Window], size: int, flush_every: int | None) -> Iterator[list[Window]]:
    """Groups of `size` windows, in order.

    A refused clip takes the place of a window, so that the groups depend only on the trials and not on what is wrong
    with them.

    Args:
      windows: of clips, in order.
      size: of each group but the last.
      flush_every: after a multiple of so many clips the next group begins.
    """
    group: list[Window] = []
    num_clips = 0
    for window in windows:
        group.append(window)
        num_clips += window.last
        if len(group) == size or (flush_every and window.last and num_clips % flush_every == 0):
            yield group
            group = []
    if group:
        yield group


@dataclass(frozen=True)
class Batch:
    """A group of windows that an engine computes.

    Attributes:
      windows: in order; those of refused clips have no samples and are not computed.
      samples: of the others.
      in_flight: what the engine's `dispatch` returned; None where there is nothing to compute.
    """

    windows: Sequence[Window]
    samples: Float[np.ndarray, "computed samples"]
    in_flight: Any

    @classmethod
    def dispatch(cls, engine: Engine, windows: Sequence[Window]) -> Batch:
        """Start computing a group."""
        samples = [window.samples for window in windows if window.samples is not None]
        if not samples:
            return cls(windows, np.empty((0, 0), np.float32), None)
        stacked = np.stack(samples)
        return cls(windows, stacked, engine.dispatch(stacked))

    def collect(self, engine: Engine) -> None:
        """Wait for the scores and add each to its clip."""
        if self.in_flight is None:
            return
        scores = engine.collect(self.samples, self.in_flight)
        computed = (window for window in self.windows if window.samples is not None)
        rows = zip(computed, scores.logits, scores.rank_gaps, scores.certified, strict=True)
        for window, logits, rank_gaps, certified in rows:
            window.clip.scores.append(WindowScores(logits, rank_gaps, bool(certified)))

    @property
    def finished_clips(self) -> list[DecodedTrial]:
        """The clips whose last window is in this batch."""
        return [window.clip for window in self.windows if window.last]
