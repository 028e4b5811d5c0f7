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
import re
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from spectra_jax.sources.files import AUDIO_SUFFIXES, Files, IdRule
from spectra_jax.sources.manifests import SUFFIXES, Lines, Manifest
from spectra_jax.sources.remote import RemoteFiles, is_url, suffix
from spectra_jax.sources.source import Given, Source
from spectra_jax.sources.webdataset import Shards, is_shards
from spectra_jax.trials import InputError, Trial, count, examples

__all__ = ["AUDIO_SUFFIXES", "Given", "IdRule", "Source", "Trials", "collect"]

_HUB_DATASETS = "hf://datasets/"
# A score file has one space between id and score and one trial a line, in UTF-8 (which has no surrogates).
_UNFIT_FOR_ID = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def collect(inputs: Sequence[str | os.PathLike[str]], *, ids: IdRule = "stem") -> Trials:
    """The trials that `inputs` stand for, in the order given.

    Each input is one of:
      - a manifest, see `spectra_jax.sources.manifests`: a `.csv`, `.tsv`, `.jsonl` or `.parquet` with a column `path`,
        and optionally `utterance_id` and `label`. A listed file need not exist.
      - a dataset in the Arena's layout: a folder with `data/test-*.parquet`, a `.parquet` file, or one of the Hub:
        `SpeechAntiSpoofingBenchmarks/NAME[@revision]` or `hf://datasets/org/name[@revision]`.
      - tar shards in WebDataset's layout, see `spectra_jax.sources.webdataset`: `name.tar`, or many at once as
        `name-{000..099}.tar` or `name-*.tar`.
      - any other file: taken whatever its extension.
      - a folder: its audio files by extension, those of its subfolders included, hidden ones left out, sorted by path.
      - a glob pattern: the audio files by extension that it matches, sorted by path. `**` stands for any number of
        folders. An existing file or folder of that very name is taken before the pattern is.
      - a URL of any of these that fsspec knows, such as `s3://`, `gs://`, `hf://` or `https://`: see
        `spectra_jax.sources.remote`.
      - `-`: a path or URL a line on standard input.

    Args:
      inputs: see above; at least one.
      ids: what a trial is called where no manifest says: the file's name without its extension, or its path as given
        (with `/` between folders; in a manifest, as written there).

    Raises:
      InputError: an input that is not there, matches nothing or holds no audio files; a manifest that cannot be read,
        naming the line; ids that are empty, hold white space, or are shared.
    """
    if not inputs:
        raise InputError("no input: give audio files, folders, glob patterns, manifests (.csv, .tsv) or datasets")
    return Trials([_source(os.fspath(given), ids) for given in inputs])


class Trials(Collection[Trial]):
    """Trials in order, read anew each time they are iterated over; clips come as they are reached.

    Attributes:
      digest: sha256 over all ids, paths and labels in order: other trials have another one.
      stamps_digest: sha256 over all stamps in order: files that changed since have another one. Not part of `digest`.

    Raises:
      InputError: a source cannot be read; or ids that are empty, hold white space or control characters, are not
        UTF-8, or are shared: how many, up to five examples, and what to do.
    """

    def __init__(self, sources: Sequence[Source]):
        self._sources = sources
        self._counts: list[int] = []
        digest, stamps, hashes, unfit = hashlib.sha256(), hashlib.sha256(), array("Q"), []
        for source in sources:
            before = len(hashes)
            for trial in source.listed():
                name = trial.utterance_id
                hashes.append(_hash(name))
                digest.update(f"{name}\0{trial.path}\0{trial.label}\n".encode(errors="surrogatepass"))
                stamps.update(f"{trial.stamp}\n".encode())
                if not name or _UNFIT_FOR_ID.search(name):
                    unfit.append(f"{name!r}: {trial.path}")
            self._counts.append(len(hashes) - before)
        if unfit:
            raise InputError(
                f"{count(len(unfit), 'utterance id')} empty or with white space, control characters or bytes that are "
                f"no UTF-8, which a score file cannot hold:{examples(unfit)}\n"
                "Rename the files, or give a manifest with a column utterance_id."
            )
        self._hashes = np.sort(np.array(hashes, np.uint64))
        self._refuse_shared()
        self.digest, self.stamps_digest = digest.hexdigest(), stamps.hexdigest()

    def __len__(self) -> int:
        return sum(self._counts)

    def __iter__(self) -> Iterator[Trial]:
        return self.from_(0)

    def __contains__(self, trial: object) -> bool:
        return any(trial == other for other in self.listed())

    def listed(self) -> Iterator[Trial]:
        """The same trials, without clips that are in no file of their own."""
        for source in self._sources:
            yield from source.listed()

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
            for trial in source.from_(start):
                key = _hash(trial.utterance_id)
                place = bisect_left(hashes, key)
                while place < len(hashes) and hashes[place] == key and come[place]:
                    place += 1
                if place == len(hashes) or hashes[place] != key:
                    raise InputError(
                        f"{source.name} has a trial not listed before, or twice: {trial.utterance_id}. Did it change?"
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

    def _refuse_shared(self) -> None:
        twice = np.unique(self._hashes[1:][self._hashes[1:] == self._hashes[:-1]])
        if not len(twice):
            return
        places: dict[str, list[Path | str]] = defaultdict(list)
        for trial in self.listed():
            key = np.uint64(_hash(trial.utterance_id))
            if twice[min(int(np.searchsorted(twice, key)), len(twice) - 1)] == key:
                places[trial.utterance_id].append(trial.path)
        # Ids of one hash that differ after all are none.
        shared = [f"{name!r}: {paths[0]} and {paths[1]}" for name, paths in places.items() if len(paths) > 1]
        if not shared:
            return
        raise InputError(
            f"{count(len(shared), 'utterance id')} shared by several trials:{examples(shared)}\n"
            "Give each file once, and where files in different folders have the same name, take their paths as ids "
            "(`--id path`) or give a manifest with a column utterance_id."
        )


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _source(given: str, ids: IdRule) -> Source:
    from spectra_jax.arena import dataset

    if given == "-":
        return Lines.of_standard_input(ids)
    here = os.path.exists(given)  # noqa: PTH110
    if not here and given.startswith((_HUB_DATASETS, f"{dataset.ORGANISATION}/")):
        name, _, revision = given.removeprefix(_HUB_DATASETS).partition("@")
        return dataset.open_hub(name, revision or None)
    if is_shards(given):
        return Shards(given, ids)
    if (here or is_url(given)) and (shards := dataset.find_shards(given)):
        return dataset.Dataset.of(given, shards)
    if suffix(given) in SUFFIXES and (is_url(given) or os.path.isfile(given)):  # noqa: PTH113
        return Manifest(given, ids)
    return RemoteFiles(given, ids) if is_url(given) else Files(given, ids)
