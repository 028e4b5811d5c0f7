"""What a source of trials is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spectra_jax.trials import Trial


def stamp_of(file: Path | str) -> str | None:
    """Size and time of modification of a local file, such as `61440:1732630000000000000`; None where there is none."""
    try:
        status = os.stat(file)  # noqa: PTH116
    # ValueError: a NUL in the path.
    except (OSError, ValueError):
        return None
    return f"{status.st_size}:{status.st_mtime_ns}"


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
