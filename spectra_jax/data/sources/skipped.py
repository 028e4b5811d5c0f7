"""What a source finds and does not score: files of other kinds, and folders that it cannot read."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath

from spectra_jax.messages import count, examples, printable

_EXAMPLES = 5
# How many suffixes are counted separately. Names such as `scan.0001` would make a kind each.
_KINDS = 100
_KINDS_SHOWN = 10
_NOUNS = ("folder", "repeated folder", "link", "special file")


class SkippedInputs:
    """What was found beside the trials and is not scored: how many files of which kind, with examples.

    Attributes:
      counts: how many by kind: a suffix such as `.txt`, "hidden", "without suffix", "link", "folder" and others.
      unreadable: what could not be read, such as a folder without permission, and why: the first five. There may be
        clips in it.
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
        """How many could not be read."""
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
        """Count something that cannot be read and may hold trials."""
        # A pattern may reach a folder twice.
        if str(name) in self._unreadable:
            return
        self._unreadable.add(str(name))
        if len(self.unreadable) < _EXAMPLES:
            self.unreadable.append(f"{name}: {reason}")

    def merge(self, other: SkippedInputs) -> None:
        """Count what another source skipped as well."""
        for kind, number in other.counts.items():
            names = other._names[kind]
            for name in names:
                self.add(name, kind)
            self.counts[kind] += number - len(names)
        for line in other.unreadable:
            if len(self.unreadable) < _EXAMPLES:
                self.unreadable.append(line)
        self._unreadable |= other._unreadable

    def warnings(self) -> list[str]:
        """For the user: a message that counts what was skipped, and one that names what could not be read."""
        messages = []
        if self.counts:
            messages.append(self._counted())
        if self.unreadable:
            messages.append(
                f"{count(self.num_unreadable, 'input')} not read, and clips in there are not scored:"
                f"{examples(self.unreadable, self.num_unreadable)}"
            )
        return messages

    def details(self) -> str:
        """The warnings as the end of an error message."""
        return "".join(f"; {message}" for message in self.warnings())

    def _counted(self) -> str:
        most = self.counts.most_common(_KINDS_SHOWN)
        kinds = [count(number, kind) if kind in _NOUNS else f"{number:,} {printable(kind)}" for kind, number in most]
        if others := len(self) - sum(number for _, number in most):
            kinds.append(f"{others:,} others")
        # The first of each kind, then the second of each, and so on.
        by_rank = sorted((rank, name) for names in self._names.values() for rank, name in enumerate(names))
        shown = [printable(name) for _, name in by_rank[:_EXAMPLES]]
        more = ", ..." if len(self) > len(shown) else ""
        return f"{count(len(self), 'file')} left out: {', '.join(kinds)} ({', '.join(shown)}{more})"
