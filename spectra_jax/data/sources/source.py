"""What a source of trials is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.trial import Trial


class Source(Protocol):
    """Trials in an order that is the same each time they are read."""

    name: str

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        """All trials, without their `content`. What is found beside them is counted in `skipped`."""

    def read_trials(self, start: int) -> Iterator[Trial]:
        """The trials from index `start` on, with the `content` of those whose clips are in a shard."""


@dataclass(frozen=True)
class InMemory(Source):
    """Trials that are in memory."""

    trials: Sequence[Trial]
    name: str = "trials"

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        return iter(self.trials)

    def read_trials(self, start: int) -> Iterator[Trial]:
        return iter(self.trials[start:])


def file_stamp(file: Path | str) -> str | None:
    """The `Trial.stamp` of a local file, size and time of modification, such as `61440:1732630000000000000`."""
    try:
        status = os.stat(file)  # noqa: PTH116
    # ValueError: a NUL in the path.
    except (OSError, ValueError):
        return None
    return f"{status.st_size}:{status.st_mtime_ns}"
