"""Where trials come from: audio files, folders, patterns, manifests, datasets, tar shards, a list on standard input.

    trials = collect(["clip.flac", "corpus/", "more/**/*.wav", "trials.csv", "shard-{000..099}.tar", "s3://bucket/speech/"])
    len(trials), trials.digest
    for trial in trials.from_(1000): ...

Sources are gone through twice, once to see that every trial has an id of its own and once to score, and held in
memory never: a million trials take eight megabytes, a hash of each id. No audio is opened here. What only reading a
clip can tell (a file that a manifest lists and that is not there, one that holds no audio) is left to the reading,
where it costs that one trial.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from spectra_jax.data.score_files import is_plain
from spectra_jax.data.sources.files import AUDIO_SUFFIXES, Files, IdRule
from spectra_jax.data.sources.manifests import SUFFIXES, Lines, Manifest
from spectra_jax.data.sources.remote import RemoteFiles, is_url, suffix
from spectra_jax.data.sources.source import Given, LeftOut, Source
from spectra_jax.data.sources.webdataset import Shards, is_shards
from spectra_jax.data.trial import MAX_CLIP_BYTES, Trial
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples, printable

__all__ = ["AUDIO_SUFFIXES", "Given", "IdRule", "LeftOut", "Source", "Trials", "collect"]

_HUB_DATASETS = "hf://datasets/"
_EXAMPLES = 5


def collect(
    inputs: Sequence[str | os.PathLike[str]], *, ids: IdRule = "stem", max_clip_bytes: int = MAX_CLIP_BYTES
) -> Trials:
    """The trials that `inputs` stand for, in the order given.

    Each input is one of:
      - a manifest, see `spectra_jax.data.sources.manifests`: a `.csv`, `.tsv`, `.jsonl` or `.parquet` with a column
        `path`, and optionally `utterance_id` and `label`. A listed file need not exist.
      - a dataset in the Arena's layout: a folder with `data/test-*.parquet`, a `.parquet` file, or one of the Hub:
        `SpeechAntiSpoofingBenchmarks/NAME[@revision]` or `hf://datasets/org/name[@revision]`.
      - tar shards in WebDataset's layout, see `spectra_jax.data.sources.webdataset`: `name.tar`, or many at once as
        `name-{000..099}.tar` or `name-*.tar`.
      - any other file: taken whatever its extension.
      - a folder: its audio files by extension, those of its subfolders included, hidden ones left out, sorted by path.
        What is left out is counted: see `Trials.left_out`.
      - a glob pattern: the audio files by extension that it matches, sorted by path. `**` stands for any number of
        folders. An existing file or folder of that very name is taken before the pattern is.
      - a URL of any of these that fsspec knows, such as `s3://`, `gs://`, `hf://` or `https://`: see
        `spectra_jax.data.sources.remote`.
      - `-`: a path or URL a line on standard input.

    Args:
      inputs: see above; at least one.
      ids: what a trial is called where no manifest says: the file's name without its extension, or its path as given
        (with `/` between folders; in a manifest, as written there). Files of one name are called by their paths
        relative to the folder given, or else by their paths as given.
      max_clip_bytes: the most that is read into memory of one clip: from a URL or a tar shard.

    Raises:
      InputError: an input that is not there, matches nothing or holds no audio files; a manifest that cannot be read,
        naming the line; a tar shard that is damaged; ids that are empty, or shared and stated by a manifest.
    """
    if not inputs:
        raise InputError("no input: give audio files, folders, glob patterns, manifests (.csv, .tsv) or datasets")
    sources = [_source(os.fspath(given), ids, max_clip_bytes) for given in inputs]
    return Trials(sources, max_clip_bytes=max_clip_bytes)


class Trials(Collection[Trial]):
    """Trials in order, read anew each time they are iterated over; clips come as they are reached.

    Attributes:
      digest: sha256 over all ids, paths and labels in order: other trials have another one.
      stamps_digest: sha256 over all stamps in order: files that changed since have another one. Not part of `digest`.
      left_out: what the sources hold beside these trials.

    Args:
      sources: where they come from, in order.
      max_clip_bytes: see `collect`.

    Raises:
      InputError: a source cannot be read; or ids that are empty, or shared by trials that have no other: how many, up
        to five examples, and what to do.
    """

    def __init__(self, sources: Sequence[Source], *, max_clip_bytes: int = MAX_CLIP_BYTES):
        self._sources = sources
        self._max_clip_bytes = max_clip_bytes
        self.left_out = LeftOut()
        # Hashes of ids that several trials have: of first names, and of those that replaced them.
        self._shared: list[array[int]] = []
        renamed = self._list(first=True)
        while len(shared := np.unique(self._hashes[1:][self._hashes[1:] == self._hashes[:-1]])):
            if self._shared and not renamed:
                break
            self._shared.append(array("Q", shared.tobytes()))
            renamed = self._list()
        if len(shared):
            self._refuse_shared(shared)
        self._refuse_given_twice()

    def _list(self, *, first: bool = False) -> int:
        """Go through all trials for their number, digests and names; how many got a name by the last of `_shared`."""
        digest, stamps, hashes = hashlib.sha256(), hashlib.sha256(), array("Q")
        self._counts: list[int] = []
        self._renamed, self._renames = 0, list[str]()
        self._unfit, self._unfits = 0, list[str]()
        changed = 0
        for source in self._sources:
            before, left_out = len(hashes), LeftOut()
            for listed in source.listed(left_out):
                trial, level = self._named(listed)
                name = trial.utterance_id
                if not name:
                    raise InputError(
                        f"{printable(trial.path)}: an empty utterance id; give a manifest with a column utterance_id"
                    )
                hashes.append(_hash(name))
                digest.update(f"{name}\0{trial.path}\0{trial.label}\n".encode(errors="surrogatepass"))
                stamps.update(f"{trial.stamp}\n".encode())
                changed += bool(level) and level == len(self._shared)
                if level:
                    self._renamed += 1
                    if len(self._renames) < _EXAMPLES:
                        self._renames.append(name)
                if not is_plain(name):
                    self._unfit += 1
                    if len(self._unfits) < _EXAMPLES:
                        self._unfits.append(f"{name!r}: {trial.path}")
            self._counts.append(len(hashes) - before)
            if first:
                self.left_out.merge(left_out)
        self._hashes = np.sort(np.array(hashes, np.uint64))
        self.digest, self.stamps_digest = digest.hexdigest(), stamps.hexdigest()
        return changed

    def _named(self, trial: Trial) -> tuple[Trial, int]:
        """The trial with the first of its names that it does not share, and which one that is."""
        if not self._shared and trial.max_bytes == self._max_clip_bytes:
            return trial, 0
        name, level = trial.utterance_id, 0
        for shared in self._shared:
            if level == len(trial.fallbacks) or not _among(shared, _hash(name)):
                break
            name = trial.fallbacks[level]
            level += 1
        return replace(trial, utterance_id=name, fallbacks=(), max_bytes=self._max_clip_bytes), level

    def notes(self) -> list[str]:
        """For the user, before anything is scored: what was left out or not read, and which ids are paths."""
        lines = self.left_out.lines()
        if self._renamed:
            more = ", ..." if self._renamed > len(self._renames) else ""
            lines.append(
                f"{count(self._renamed, 'trial')} with file names that are not unique: their paths are their ids "
                f"({', '.join(map(printable, self._renames))}{more})"
            )
        return lines

    def require_plain_ids(self) -> None:
        """See that a score file in the Arena's format can hold all ids.

        Raises:
          InputError: some have white space, control characters or bytes that are not UTF-8.
        """
        if self._unfit:
            raise InputError(
                f"{count(self._unfit, 'utterance id')} with white space, control characters or bytes that are not "
                f"UTF-8, which a .txt score file cannot hold:{examples(self._unfits, self._unfit)}\n"
                "Write a .csv or .jsonl, escape such characters (`--escape-ids`), or give a manifest with a column "
                "utterance_id."
            )

    def __len__(self) -> int:
        return sum(self._counts)

    def __iter__(self) -> Iterator[Trial]:
        return self.from_(0)

    def __contains__(self, trial: object) -> bool:
        return any(trial == other for other in self.listed())

    def listed(self) -> Iterator[Trial]:
        """The same trials, without clips that are in no file of their own."""
        for source in self._sources:
            for trial in source.listed():
                yield self._named(trial)[0]

    def from_(self, start: int) -> Iterator[Trial]:
        """The trials from place `start` on.

        Raises:
          InputError: they are no longer those that were listed at first.
        """
        come = np.zeros(len(self._hashes), bool)
        # Not numpy's search: it lets go of Python's lock, and has to wait for the threads that decode to get it back.
        hashes = memoryview(self._hashes)  # type: ignore[arg-type]
        skipped = start
        for source, number in zip(self._sources, self._counts, strict=True):
            if start >= number:
                start -= number
                continue
            for listed in source.from_(start):
                trial, _ = self._named(listed)
                key = _hash(trial.utterance_id)
                place = bisect_left(hashes, key)
                while place < len(hashes) and hashes[place] == key and come[place]:
                    place += 1
                if place == len(hashes) or hashes[place] != key:
                    raise InputError(
                        f"{source.name} has a trial not listed before, or twice: {printable(trial.utterance_id)}. Did "
                        "it change?"
                    )
                come[place] = True
                yield trial
            start = 0
        if missing := len(come) - skipped - int(come.sum()):
            names = "" if skipped else examples([trial.utterance_id for trial in self._not_come(come)])
            raise InputError(f"{count(missing, 'trial')} listed and not there when their turn came{names or '.'}")

    def _not_come(self, come: np.ndarray) -> Iterator[Trial]:
        keys = self._hashes[~come]
        return (trial for trial in self.listed() if np.isin(np.uint64(_hash(trial.utterance_id)), keys))

    def _refuse_shared(self, twice: np.ndarray) -> None:
        keys = array("Q", twice.tobytes())
        places: dict[str, list[Path | str]] = defaultdict(list)
        for trial in self.listed():
            if _among(keys, _hash(trial.utterance_id)):
                places[trial.utterance_id].append(trial.path)
        # Ids of one hash that differ after all are none.
        shared = [f"{name!r}: {paths[0]} and {paths[1]}" for name, paths in places.items() if len(paths) > 1]
        if not shared:
            return
        raise InputError(
            f"{count(len(shared), 'utterance id')} shared by several trials:{examples(shared)}\n"
            "Give each file once, and each trial an id of its own in the column utterance_id of a manifest."
        )

    def _refuse_given_twice(self) -> None:
        """See that no file took two ids, as one may that two inputs have in common."""
        if not self._renamed:
            return
        paths = array("Q")
        for source in self._sources:
            for trial, level in map(self._named, source.listed()):
                if level:
                    paths.append(_hash(str(trial.path)))
        hashes = np.sort(np.array(paths, np.uint64))
        twice = array("Q", np.unique(hashes[1:][hashes[1:] == hashes[:-1]]).tobytes())
        if not len(twice):
            return
        found = [str(trial.path) for trial in self.listed() if _among(twice, _hash(str(trial.path)))]
        names = sorted(set(found))
        if len(names) < len(found):
            raise InputError(
                f"{count(len(names), 'file')} given more than once:{examples(names)}\nGive each file once."
            )


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _among(hashes: array[int], key: int) -> bool:
    """Whether sorted hashes have `key`."""
    index = bisect_left(hashes, key)
    return index < len(hashes) and hashes[index] == key


def _source(given: str, ids: IdRule, max_clip_bytes: int) -> Source:
    from spectra_jax.data.sources import arena

    if given == "-":
        return Lines.of_standard_input(ids)
    here = os.path.exists(given)  # noqa: PTH110
    if not here and given.startswith((_HUB_DATASETS, f"{arena.ORGANISATION}/")):
        name, _, revision = given.removeprefix(_HUB_DATASETS).partition("@")
        return arena.open_hub(name, revision or None)
    if is_shards(given):
        return Shards(given, ids, max_clip_bytes)
    if (here or is_url(given)) and (shards := arena.find_shards(given)):
        return arena.Dataset.of(given, shards)
    if suffix(given) in SUFFIXES and (is_url(given) or os.path.isfile(given)):  # noqa: PTH113
        return Manifest(given, ids)
    return RemoteFiles(given, ids) if is_url(given) else Files(given, ids)
