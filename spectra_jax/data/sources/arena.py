"""Datasets in the Arena's parquet layout, as trials: shard by shard, a few clips in memory at a time.

    dataset = Dataset.of("ASVspoof2019_LA", find_shards("ASVspoof2019_LA"))    # a directory with data/test-*.parquet
    dataset = open_hub("SpeechAntiSpoofingBenchmarks/InTheWild")               # shards are fetched as they are reached
    for trial in dataset.from_(0): ...                                         # trial.content holds the clip's bytes

Columns: `path`, `audio` (struct of bytes and path), `label` (0 = bona fide, 1 = spoof), `notes` (JSON with
`utterance_id`). Ids and labels are listed first, from the light columns alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from spectra_jax.data.sources import remote
from spectra_jax.data.sources.files import walk
from spectra_jax.data.sources.remote import is_url, suffix
from spectra_jax.data.sources.source import LeftOut, Source
from spectra_jax.data.text import reading_parquet
from spectra_jax.data.trial import Label, Trial
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples, printable

ORGANISATION = "SpeechAntiSpoofingBenchmarks"
PINNED = {
    "ASVspoof2019_LA": "9492c4a85ad91508b6da03c92c98c58aeaa02424",
    "ASVspoof2021_DF": "16d4f7d6c68694ac9b0bd43b83df322d1bc5102e",
    "ASVspoof2021_LA": "dc119733697c946fcd17fe7c1541d7f26b4bbe07",
    "CD-ADD": "c2de87d49b268b624e6af7440dc2890703098965",
    "InTheWild": "a957f2582802cdb5964e118818c2e46b3d61aa35",
}
LABELS = "data/labels.parquet"
_SHARDS = "test-*.parquet"
_COLUMNS = ("path", "audio", "label", "notes")
# Clips read from a shard at once. A row group may hold thousands.
_ROWS = 32
# Bytes of a column read ahead. By default pyarrow reads the row group's whole column, which may be a whole shard.
_READ_AHEAD = 1 << 20
_LABELS: dict[Any, Label] = {0: "bonafide", 1: "spoof"}
# How many shards there are is in each one's name.
_OF_HOW_MANY = re.compile(r"-\d+-of-(\d+)\.parquet")


@dataclass(frozen=True)
class Dataset(Source):
    """A dataset, whose clips are read as it is iterated over.

    Attributes:
      name: what the person called it.
      shards: how to get at each shard, as a path or URL; called when it is reached.
      labels: what lists its trials without their clips, where not the shards do.
      revision: the Hub's commit that it is of, which is all its trials' stamp; otherwise they have their shard's.
      others: adds what is there beside the shards to what is left out.
    """

    name: str
    shards: Sequence[Callable[[], str]]
    labels: Path | None = None
    revision: str | None = None
    others: Callable[[LeftOut], None] | None = None

    @classmethod
    def of(cls, name: str, shards: Sequence[str]) -> Self:
        """Of shards by their paths or URLs."""
        others = partial(_add_others, name, frozenset(shards)) if os.path.isdir(name) else None  # noqa: PTH112
        return cls(name, [partial(str, shard) for shard in shards], others=others)

    def listed(self, left_out: LeftOut | None = None) -> Iterator[Trial]:
        """Its trials without their clips.

        Raises:
          InputError: unreadable, other columns, rows without an id or with an unknown label: with counts and examples.
        """
        if self.others is not None and left_out is not None:
            self.others(left_out)
        if self.labels is not None:
            yield from _listed_in(self.labels, self.revision)
            return
        empty = True
        for shard in self.shards:
            for trial in self._trials(shard(), clips=False):
                empty = False
                yield trial
        if empty:
            raise InputError(f"{self.name}: {count(len(self.shards), 'shard')} without a row")

    def from_(self, start: int) -> Iterator[Trial]:
        """Its trials with their clips, a few of which are in memory at a time.

        Raises:
          InputError: a shard cannot be read.
        """
        for shard in self.shards:
            path = shard()
            rows = _num_rows(path) if start else 0
            if start and rows <= start:
                start -= rows
                continue
            yield from self._trials(path, clips=True, start=start)
            start = 0

    def _trials(self, shard: str, *, clips: bool, start: int = 0) -> Iterator[Trial]:
        stamp = self.revision or remote.stamp(shard)
        return (replace(trial, stamp=stamp) for trial in _trials(shard, clips=clips, start=start))


def find_shards(given: str) -> list[str]:
    """The shards of a dataset in order, by its path or URL; none where it is something else."""
    if suffix(given) == ".parquet":
        return [given] if _has_clips(given) else []
    for pattern in (f"data/{_SHARDS}", _SHARDS):
        if is_url(given):
            folder = not suffix(given) and not any(mark in given for mark in "*?[")
            if folder and (found := remote.glob(f"{given.rstrip('/')}/{pattern}")):
                return found
        elif found := sorted(map(str, Path(given).glob(pattern))):
            return found
    return []


def _has_clips(shard: str) -> bool:
    """Whether a parquet file has the column that tells a dataset from a manifest."""
    import pyarrow.parquet as pq

    with remote.opened(shard) as file, reading_parquet(shard):
        return "audio" in pq.read_schema(file).names


def _num_rows(shard: str) -> int:
    import pyarrow.parquet as pq

    with remote.opened(shard) as file, reading_parquet(shard):
        return int(pq.read_metadata(file).num_rows)


def open_hub(name: str, revision: str | None = None) -> Dataset:
    """A dataset of the Hub, `org/name`; its shards are fetched into the client's cache as they are reached.

    Args:
      name: of the dataset.
      revision: a commit, branch or tag; the pinned one, or else `main`, otherwise.

    Raises:
      HubError: it cannot be fetched.
      InputError: it is in another layout.
    """
    from spectra_jax import hub

    revision = revision or pinned_revision(name)
    commit, files = hub.list_dataset(name, revision)
    shards = sorted(file for file in files if Path(file).match(f"data/{_SHARDS}"))
    if not shards:
        raise InputError(f"{name} at {commit}: no data/{_SHARDS} in it, but {len(files)} other files")
    # Out of reach of the Hub, what the cache holds is all that can be listed.
    stated = _OF_HOW_MANY.search(shards[0])
    if stated and len(shards) != int(stated[1]):
        raise InputError(
            f"{name} at {commit}: {len(shards)} of its {int(stated[1])} shards can be found. Without a network these "
            "are the ones fetched before; connect to it and run the same command again."
        )
    labels = hub.fetch_dataset_file(name, commit, LABELS) if LABELS in files else None

    def fetch(shard: str) -> Callable[[], str]:
        return lambda: str(hub.fetch_dataset_file(name, commit, shard))

    def others(left_out: LeftOut) -> None:
        for file in files:
            if file.endswith(".parquet") and file not in (*shards, LABELS):
                left_out.add(file)

    return Dataset(f"{name}@{commit}", [fetch(shard) for shard in shards], labels, commit, others)


def pinned_revision(name: str) -> str:
    """The revision that the published scores were made with, where it is known; else `main`."""
    organisation, _, dataset = name.partition("/")
    return PINNED.get(dataset, "main") if organisation == ORGANISATION else "main"


def _add_others(folder: str, shards: frozenset[str], left_out: LeftOut) -> None:
    """Count the files of a folder that are not its shards: clips that lie beside them, shards of other splits."""
    for path in walk(Path(folder), left_out, every=True):
        if str(path) not in shards and path.name != Path(LABELS).name:
            left_out.add(path)


def _within(shard: str, path: str) -> Path | str:
    return f"{shard}/{path}" if is_url(shard) else Path(shard) / path


def _listed_in(path: Path, stamp: str | None) -> Iterator[Trial]:
    """Trials of a labels.parquet, without their clips."""
    from spectra_jax.data.labels import read_labels

    labels = read_labels(path)
    words: tuple[Label, Label] = ("spoof", "bonafide")
    return (
        Trial(str(name), Path(path.name), words[bool(bonafide)], stamp=stamp)
        for name, bonafide in zip(labels.utterance_ids, labels.bonafide, strict=True)
    )


def _trials(shard: str, *, clips: bool, start: int = 0) -> Iterator[Trial]:
    """Trials of a shard from row `start` on."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [name for name in _COLUMNS if clips or name != "audio"]
    bad: list[str] = []
    with (
        remote.opened(shard) as source,
        reading_parquet(shard),
        pq.ParquetFile(source, buffer_size=_READ_AHEAD, pre_buffer=False) as file,
    ):
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise InputError(
                f"{shard}: no column {', '.join(missing)}; a dataset has {', '.join(_COLUMNS)}, and this file "
                f"{', '.join(map(printable, file.schema_arrow.names))}"
            )
        kind = file.schema_arrow.field("audio").type
        if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise InputError(f"{shard}: column audio is {kind}; a dataset has a struct of bytes and path there")
        # Row groups that end before `start` are not read at all.
        ends = np.cumsum([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
        groups = [group for group, end in enumerate(ends) if end > start]
        row = int(ends[groups[0] - 1]) if groups and groups[0] else 0
        size = _ROWS if clips else 65_536
        for batch in file.iter_batches(size, row_groups=groups, columns=columns, use_threads=False):
            behind = min(max(start - row, 0), len(batch))
            row += behind
            for values in batch.slice(behind).to_pylist():
                trial = _trial(shard, values, clips=clips)
                if isinstance(trial, Trial):
                    yield trial
                else:
                    bad.append(f"row {row}: {trial}")
                row += 1
    if bad:
        raise InputError(f"{shard}: {count(len(bad), 'row')} that are no trials:{examples(bad)}")


def _trial(shard: str, values: dict[str, Any], *, clips: bool) -> Trial | str:
    """The trial of a row, or what is wrong with the row."""
    try:
        name = json.loads(values["notes"])["utterance_id"]
    except (TypeError, ValueError, KeyError, RecursionError):
        name = None
    if name is None:
        return f"notes {values['notes']!r:.100} without an utterance_id"
    if not isinstance(values["label"], int | float) or values["label"] not in _LABELS:
        return f"label {values['label']!r} of {name!r}, neither 0 (bona fide) nor 1 (spoof)"
    trial = Trial(str(name), _within(shard, str(values["path"])), _LABELS[values["label"]])
    return _with_clip(trial, shard, values["audio"] or {}) if clips else trial


def _with_clip(trial: Trial, shard: str, audio: dict[str, Any]) -> Trial:
    """The trial with its clip's bytes, or with the path of the file that holds them; else with why there is none."""
    if audio.get("bytes") is not None:
        return replace(trial, content=audio["bytes"])
    path = audio.get("path")
    if not path:
        return replace(trial, problem=f"{trial.path}: neither bytes nor a path in the column audio")
    file = remote.beside(shard, str(path))
    if isinstance(file, Path) and os.path.exists(file):  # noqa: PTH110
        return replace(trial, path=file)
    where = "and no such file is there" if isinstance(file, Path) else "which is read of local datasets alone"
    return replace(trial, problem=f"{trial.path}: no bytes in the column audio but the path {path!r}, {where}")
