"""How long scoring waits for each of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class StageTimer:
    """Seconds that the scoring thread has waited for each stage: listing trials, decoding, the device.

    Args:
      clock: seconds from some fixed moment; it never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds = dict.fromkeys(("listing", "decoding", "device"), 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start = self._clock()
        try:
            yield
        finally:
            self.seconds[stage] += self._clock() - start

    def timed(self, stage: str, items: Iterable[T], *, excluding: str | None = None) -> Iterator[T]:
        """The same items. Adds the time that each takes to arrive, less what is added to `excluding` meanwhile."""
        iterator = iter(items)
        while True:
            start, excluded = self._clock(), self.seconds[excluding] if excluding else 0.0
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                meanwhile = self.seconds[excluding] - excluded if excluding else 0.0
                self.seconds[stage] += self._clock() - start - meanwhile
            yield item
