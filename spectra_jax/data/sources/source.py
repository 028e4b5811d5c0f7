"""What a source of trials is, and what it leaves out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

from spectra_jax.data.trial import Trial
from spectra_jax.messages import count, examples, printable

_EXAMPLES = 5
# Distinct suffixes that are counted one by one. Names such as `scan.0001` would make a kind each.
_KINDS = 100
_KINDS_SHOWN = 10
_NOUNS = ("folder", "repeated folder", "link", "special file")


def stamp_of(file: Path | str) -> str | None:
    """Size and time of modification of a local file, such as `61440:1732630000000000000`; None where there is none."""
    try:
        status = os.stat(file)  # noqa: PTH116
    # ValueError: a NUL in the path.
    except (OSError, ValueError):
        return None
    return f"{status.st_size}:{status.st_mtime_ns}"


class LeftOut:
    """What was found beside the trials and is not scored: how many files of which kind, and examples.

    Attributes:
      counts: how many by kind: a suffix such as `.txt`, "hidden", "without suffix", "link", "folder" and others.
      unreadable: what could not be looked into, such as a folder without permission, and why: the first few. There may
        be clips in it.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.unreadable: list[str] = []
        self._unreadable: set[str] = set()
        self._names: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return self.counts.total()

    @property
    def num_unreadable(self) -> int:
        """How many could not be looked into."""
        return len(self._unreadable)

    def add(self, name: str | PurePath, kind: str | None = None) -> None:
        """Count a file; its kind is its suffix unless given."""
        base = PurePath(name).name
        if kind is None:
            kind = "hidden" if base.startswith(".") else PurePath(base).suffix.lower() or "without suffix"
            if kind not in self.counts and (len(kind) > 16 or len(self.counts) >= _KINDS):
                kind = "of other suffixes"
        self.counts[kind] += 1
        names = self._names.setdefault(kind, [])
        if len(names) < _EXAMPLES:
            names.append(str(name))

    def add_unreadable(self, name: str | PurePath, reason: object) -> None:
        """Count what may hold trials and cannot be looked into."""
        # A pattern may come by one folder twice.
        if str(name) in self._unreadable:
            return
        self._unreadable.add(str(name))
        if len(self.unreadable) < _EXAMPLES:
            self.unreadable.append(f"{name}: {reason}")

    def merge(self, other: LeftOut) -> None:
        """Count what another source left out as well."""
        for kind, number in other.counts.items():
            names = other._names[kind]
            for name in names:
                self.add(name, kind)
            self.counts[kind] += number - len(names)
        for line in other.unreadable:
            if len(self.unreadable) < _EXAMPLES:
                self.unreadable.append(line)
        self._unreadable |= other._unreadable

    def lines(self) -> list[str]:
        """For the user: a line that counts what was left out, and one that names what could not be read."""
        lines = []
        if self.counts:
            kinds = [
                count(number, kind) if kind in _NOUNS else f"{number:,} {printable(kind)}"
                for kind, number in self.counts.most_common(_KINDS_SHOWN)
            ]
            if others := len(self) - sum(number for _, number in self.counts.most_common(_KINDS_SHOWN)):
                kinds.append(f"{others:,} others")
            # One of each kind before a second of any.
            by_turn = sorted((turn, name) for names in self._names.values() for turn, name in enumerate(names))
            shown = [printable(name) for _, name in by_turn[:_EXAMPLES]]
            more = ", ..." if len(self) > len(shown) else ""
            lines.append(f"{count(len(self), 'file')} left out: {', '.join(kinds)} ({', '.join(shown)}{more})")
        if self.unreadable:
            lines.append(
                f"{count(self.num_unreadable, 'input')} not read, and clips in there are not scored:"
                f"{examples(self.unreadable, self.num_unreadable)}"
            )
        return lines


class Source(Protocol):
    """Trials in an order of their own, which is the same each time they are gone through."""

    name: str

    def listed(self, left_out: LeftOut | None = None) -> Iterator[Trial]:
        """All trials, without their clips. What is found beside them is added to `left_out`."""

    def from_(self, start: int) -> Iterator[Trial]:
        """Trials from the one at place `start` on, with their clips where those lie in no file of their own."""


@dataclass(frozen=True)
class Given(Source):
    """Trials that are in memory."""

    trials: Sequence[Trial]
    name: str = "trials"

    def listed(self, left_out: LeftOut | None = None) -> Iterator[Trial]:
        return iter(self.trials)

    def from_(self, start: int) -> Iterator[Trial]:
        return iter(self.trials[start:])
