"""The trials of several sources, each with an id of its own, and without holding them in memory."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from spectra_jax.data.score_files import is_plain
from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.sources.source import Source
from spectra_jax.data.trial import MAX_CLIP_BYTES, Trial
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples, printable

_EXAMPLES = 5


class Trials(Collection[Trial]):
    """Trials in order, read again each time they are iterated over; the `content` of a clip is read when it is reached.

    Sources are read twice, once to check that every trial has an id of its own and once to score. A million trials take
    eight megabytes, a hash of each id.

    Attributes:
      digest: sha256 over all ids, paths and labels in order: it differs for other trials.
      stamps_digest: sha256 over all stamps in order: it differs if files have changed. Not part of `digest`.
      skipped_inputs: what the sources hold beside these trials.

    Args:
      sources: of the trials, in order.
      max_clip_bytes: see `collect`.

    Raises:
      InputError: a source cannot be read; or ids that are empty, or shared by trials that have no other id: how many,
        up to five examples, and what to do.
    """

    def __init__(self, sources: Sequence[Source], *, max_clip_bytes: int = MAX_CLIP_BYTES):
        self._sources = sources
        self._max_clip_bytes = max_clip_bytes
        # Sorted hashes of the ids that several trials have: of the first ids, of the first fallbacks, and so on.
        self._shared: list[array[int]] = []
        self.skipped_inputs = SkippedInputs()
        listing = self._list(self.skipped_inputs)
        while len(shared := _repeated(listing.hashes)):
            if self._shared and not listing.changed:
                self._refuse_shared_ids(shared)
                break
            self._shared.append(shared)
            listing = self._list(SkippedInputs())
        self._listing = listing
        self.digest, self.stamps_digest = listing.digest, listing.stamps_digest
        self._refuse_repeated_files()

    def _list(self, skipped: SkippedInputs) -> _Listing:
        """Read all trials, without clips, for their number, digests and ids."""
        digest, stamps, hashes = hashlib.sha256(), hashlib.sha256(), array("Q")
        counts, changed = list[int](), 0
        renamed, not_plain = _Counted(), _Counted()
        for source in self._sources:
            before, skipped_here = len(hashes), SkippedInputs()
            for listed in source.list_trials(skipped_here):
                trial, level = self._with_own_id(listed)
                name = trial.utterance_id
                if not name:
                    raise InputError(
                        f"{printable(trial.path)}: an empty utterance id; give a manifest with a column utterance_id"
                    )
                hashes.append(_hash(name))
                digest.update(f"{name}\0{trial.path}\0{trial.label}\n".encode(errors="surrogatepass"))
                stamps.update(f"{trial.stamp}\n".encode())
                if level:
                    renamed.add(name)
                    changed += level == len(self._shared)
                if not is_plain(name):
                    not_plain.add(f"{name!r}: {trial.path}")
            counts.append(len(hashes) - before)
            skipped.merge(skipped_here)
        in_order = np.sort(np.array(hashes, np.uint64))
        return _Listing(counts, in_order, digest.hexdigest(), stamps.hexdigest(), renamed, not_plain, changed)

    def _with_own_id(self, trial: Trial) -> tuple[Trial, int]:
        """The trial with the first of its ids that it does not share, and how many ids were tried before that."""
        if not self._shared and trial.max_bytes == self._max_clip_bytes:
            return trial, 0
        name, level = trial.utterance_id, 0
        for shared in self._shared:
            if level == len(trial.fallbacks) or not _contains(shared, _hash(name)):
                break
            name = trial.fallbacks[level]
            level += 1
        return replace(trial, utterance_id=name, fallbacks=(), max_bytes=self._max_clip_bytes), level

    def warnings(self) -> list[str]:
        """For the user, before anything is scored: what was skipped or could not be read, and which ids are paths."""
        messages = self.skipped_inputs.warnings()
        renamed = self._listing.renamed
        if renamed.number:
            more = ", ..." if renamed.number > len(renamed.examples) else ""
            messages.append(
                f"{count(renamed.number, 'trial')} with file names that are not unique: their paths are their ids "
                f"({', '.join(map(printable, renamed.examples))}{more})"
            )
        return messages

    def require_plain_ids(self) -> None:
        """Check that a score file in the Arena's format can hold all ids.

        Raises:
          InputError: some have white space, control characters or bytes that are not UTF-8.
        """
        found = self._listing.not_plain
        if found.number:
            raise InputError(
                f"{count(found.number, 'utterance id')} with white space, control characters or bytes that are not "
                f"UTF-8, which a .txt score file cannot hold:{examples(found.examples, found.number)}\n"
                "Write a .csv or .jsonl, escape such characters (`--escape-ids`), or give a manifest with a column "
                "utterance_id."
            )

    def __len__(self) -> int:
        return sum(self._listing.counts)

    def __iter__(self) -> Iterator[Trial]:
        return self.iterate(0)

    def __contains__(self, trial: object) -> bool:
        return any(trial == other for other in self.without_content())

    def without_content(self) -> Iterator[Trial]:
        """The same trials, without the bytes of clips that are in shards, which are not read."""
        for source in self._sources:
            for trial in source.list_trials():
                yield self._with_own_id(trial)[0]

    def iterate(self, start: int) -> Iterator[Trial]:
        """The trials from index `start` on.

        Raises:
          InputError: they are not the trials that were listed at first.
        """
        seen = _Seen(self._listing.hashes)
        skipped = start
        for source, number in zip(self._sources, self._listing.counts, strict=True):
            if start >= number:
                start -= number
                continue
            for read in source.read_trials(start):
                trial, _ = self._with_own_id(read)
                if not seen.add(_hash(trial.utterance_id)):
                    raise InputError(
                        f"{source.name} has a trial that was not listed before, or twice: "
                        f"{printable(trial.utterance_id)}. Did it change?"
                    )
                yield trial
            start = 0
        if missing := len(seen.hashes) - skipped - seen.number:
            # Those before `start` were not read, so their ids cannot be distinguished from the missing ones.
            names = "" if skipped else examples([trial.utterance_id for trial in self._unseen(seen)])
            raise InputError(f"{count(missing, 'trial')} listed before and not found any more{names or '.'}")

    def _unseen(self, seen: _Seen) -> Iterator[Trial]:
        keys = seen.missing()
        return (trial for trial in self.without_content() if np.isin(np.uint64(_hash(trial.utterance_id)), keys))

    def _refuse_shared_ids(self, shared: array[int]) -> None:
        paths: dict[str, list[Path | str]] = defaultdict(list)
        for trial in self.without_content():
            if _contains(shared, _hash(trial.utterance_id)):
                paths[trial.utterance_id].append(trial.path)
        # Two ids may have one hash and still differ.
        found = [f"{name!r}: {of[0]} and {of[1]}" for name, of in paths.items() if len(of) > 1]
        if found:
            raise InputError(
                f"{count(len(found), 'utterance id')} shared by several trials:{examples(found)}\n"
                "Give each file once, and each trial an id of its own in the column utterance_id of a manifest."
            )

    def _refuse_repeated_files(self) -> None:
        """Check that no file has two ids, as a file has that two inputs contain, each with a fallback of its own."""
        if not self._listing.renamed.number:
            return
        paths = array("Q")
        for source in self._sources:
            for trial, level in map(self._with_own_id, source.list_trials()):
                if level:
                    paths.append(_hash(str(trial.path)))
        repeated = _repeated(np.sort(np.array(paths, np.uint64)))
        if not len(repeated):
            return
        found = [str(trial.path) for trial in self.without_content() if _contains(repeated, _hash(str(trial.path)))]
        names = sorted(set(found))
        if len(names) < len(found):
            raise InputError(
                f"{count(len(names), 'file')} given more than once:{examples(names)}\nGive each file once."
            )


@dataclass
class _Counted:
    """A number of things, and the first few of them."""

    number: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.number += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(text)


@dataclass(frozen=True)
class _Listing:
    """What one reading of all trials found.

    Attributes:
      counts: the number of trials of each source.
      hashes: (n,) uint64, of all ids, sorted.
      digest, stamps_digest: see `Trials`.
      renamed: ids that are fallbacks.
      not_plain: ids that a .txt score file cannot hold, with their paths.
      changed: how many trials have another id because of the last hashes of shared ids.
    """

    counts: list[int]
    hashes: np.ndarray
    digest: str
    stamps_digest: str
    renamed: _Counted
    not_plain: _Counted
    changed: int


class _Seen:
    """Which of the listed ids have been read."""

    def __init__(self, hashes: np.ndarray):
        self.hashes = hashes
        self.number = 0
        self._seen = np.zeros(len(hashes), bool)
        # bisect on a memoryview rather than numpy's search, which releases Python's lock and then has to wait for the
        # threads that decode to get it back.
        self._view = memoryview(hashes)  # type: ignore[arg-type]

    def add(self, key: int) -> bool:
        """Note an id; False if it was not listed, or as often as this."""
        index = bisect_left(self._view, key)
        while index < len(self._view) and self._view[index] == key and self._seen[index]:
            index += 1
        if index == len(self._view) or self._view[index] != key:
            return False
        self._seen[index] = True
        self.number += 1
        return True

    def missing(self) -> np.ndarray:
        """The hashes of ids that have not been read."""
        return self.hashes[~self._seen]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _repeated(hashes: np.ndarray) -> array[int]:
    """Which of sorted hashes occur more than once, sorted."""
    return array("Q", np.unique(hashes[1:][hashes[1:] == hashes[:-1]]).tobytes())


def _contains(hashes: array[int], key: int) -> bool:
    """Whether sorted hashes contain `key`."""
    index = bisect_left(hashes, key)
    return index < len(hashes) and hashes[index] == key
