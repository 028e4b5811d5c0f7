"""The seconds that are counted for each stage of scoring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.data.trial import Trial
from spectra_jax.inference.timing import StageTimer
from tests.engine_stand_in import stand_in_scorer
from tests.inference.clips import (
    as_decoded,
    waveform,
    zeros,
)


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_listing_and_the_device_are_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def listed() -> Iterator[Trial]:
        for index in range(6):
            clock.now += 1
            yield Trial(str(index), Path("x.wav"))

    class InFlight:
        """Takes ten seconds a window to collect."""

        def __init__(self, windows: np.ndarray):
            self._windows = windows

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            clock.now += 10 * len(self._windows)
            return zeros(self._windows)

    monkeypatch.setattr("spectra_jax.audio.decode", lambda *_, **__: as_decoded(waveform(1)))
    scorer = stand_in_scorer(InFlight)
    timer = StageTimer(clock)
    assert len(list(scorer.score_trials(listed(), timer=timer))) == 6
    assert timer.seconds == {"listing": 6, "decoding": 0, "device": 60}


def test_a_wait_within_another_is_not_counted_twice() -> None:
    clock = Clock()
    timer = StageTimer(clock)

    def passing(items: Iterable[int], seconds: float) -> Iterator[int]:
        for item in items:
            clock.now += seconds
            yield item

    decoded = timer.timed("decoding", passing(timer.timed("listing", passing(range(4), 1)), 5), excluding="listing")
    assert list(decoded) == [0, 1, 2, 3]
    assert timer.seconds == {"listing": 4, "decoding": 20, "device": 0}
