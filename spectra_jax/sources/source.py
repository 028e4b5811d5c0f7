"""What a source of trials is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from spectra_jax.trials import Trial


class Source(Protocol):
    """Trials in an order of their own, which is the same each time they are gone through."""

    name: str

    def listed(self) -> Iterator[Trial]:
        """All trials, without their clips."""

    def from_(self, start: int) -> Iterator[Trial]:
        """Trials from the one at place `start` on, with their clips where those lie in no file of their own."""


@dataclass(frozen=True)
class Given(Source):
    """Trials that are in memory."""

    trials: Sequence[Trial]
    name: str = "trials"

    def listed(self) -> Iterator[Trial]:
        return iter(self.trials)

    def from_(self, start: int) -> Iterator[Trial]:
        return iter(self.trials[start:])
