"""Datasets in the Arena's parquet layout, as trials: shard by shard, a few clips in memory at a time.

    dataset = Dataset.from_shards("LA", find_shards("LA"))           # LA/ has data/test-*.parquet
    dataset = open_hub("SpeechAntiSpoofingBenchmarks/InTheWild")     # shards are fetched when they are reached
    for trial in dataset.read_trials(0): ...                         # trial.content has the clip's bytes

Columns: `path`, `audio` (struct of bytes and path), `label` (0 = bona fide, 1 = spoof), `notes` (JSON with
`utterance_id`). Ids and labels are listed first, without reading the column `audio`. The organisation's name and the
revisions of its datasets are here, since whatever else needs them (results, reported EERs) also needs the datasets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from spectra_jax import hub
from spectra_jax.data.labels import read_labels
from spectra_jax.data.sources import remote
from spectra_jax.data.sources.files import walk
from spectra_jax.data.sources.remote import is_url, suffix
from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.sources.source import Source
from spectra_jax.data.tables import reading_parquet
from spectra_jax.data.trial import Label, Trial
from spectra_jax.errors import InputError
from spectra_jax.files.untrusted import parse_json
from spectra_jax.messages import count, examples, printable

ORGANISATION = "SpeechAntiSpoofingBenchmarks"
# The revisions that the published scores are of.
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
ROWS_WITH_CLIPS = 32
"""How many rows of a shard are in memory at once with their clips. A row group may have thousands."""
_ROWS = 65_536  # without clips
# Bytes of a column that are read ahead. By default pyarrow reads the column of a complete row group, which may be
# the complete shard.
_READ_AHEAD = 1 << 20
_LABELS: dict[Any, Label] = {0: "bonafide", 1: "spoof"}
# A shard's name states how many there are.
_NUM_SHARDS = re.compile(r"-\d+-of-(\d+)\.parquet")


@dataclass(frozen=True)
class Dataset(Source):
    """A dataset, whose clips are read when they are reached.

    Attributes:
      name: as given by the user.
      shards: functions that return the path or URL of a shard, and fetch it if necessary.
      labels: a `labels.parquet` that lists the trials; None if the shards have to.
      revision: the commit on the Hub, which is then the stamp of all trials; otherwise they have their shard's.
      add_others: counts what is found beside the shards.
    """

    name: str
    shards: Sequence[Callable[[], str]]
    labels: Path | None = None
    revision: str | None = None
    add_others: Callable[[SkippedInputs], None] | None = None

    @classmethod
    def from_shards(cls, name: str, shards: Sequence[str]) -> Self:
        """A dataset of shards by their paths or URLs."""
        others = partial(_add_others, name, frozenset(shards)) if os.path.isdir(name) else None  # noqa: PTH112
        return cls(name, [partial(str, shard) for shard in shards], add_others=others)

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        """The trials without their clips.

        Raises:
          InputError: unreadable, other columns, rows without an id or with an unknown label: with counts and examples.
        """
        if self.add_others is not None and skipped is not None:
            self.add_others(skipped)
        if self.labels is not None:
            yield from _trials_of_labels(self.labels, self.revision)
            return
        empty = True
        for shard in self.shards:
            for trial in self._trials(shard(), clips=False):
                empty = False
                yield trial
        if empty:
            raise InputError(f"{self.name}: {count(len(self.shards), 'shard')} without a row")

    def read_trials(self, start: int) -> Iterator[Trial]:
        """The trials with their clips, a few of which are in memory at a time.

        Raises:
          InputError: a shard cannot be read.
        """
        for shard in self.shards:
            path = shard()
            rows = num_rows(path) if start else 0
            if start and rows <= start:
                start -= rows
                continue
            yield from self._trials(path, clips=True, start=start)
            start = 0

    def _trials(self, shard: str, *, clips: bool, start: int = 0) -> Iterator[Trial]:
        stamp = self.revision or remote.stamp(shard)
        return (replace(trial, stamp=stamp) for trial in _trials(shard, clips=clips, start=start))


def find_shards(name: str) -> list[str]:
    """The shards, in order, of a dataset's path or URL; none if it is not a dataset."""
    if suffix(name) == ".parquet":
        return [name] if _has_clips(name) else []
    for pattern in (f"data/{_SHARDS}", _SHARDS):
        if is_url(name):
            folder = not suffix(name) and not any(mark in name for mark in "*?[")
            if folder and (found := remote.glob(f"{name.rstrip('/')}/{pattern}")):
                return found
        elif found := sorted(map(str, Path(name).glob(pattern))):
            return found
    return []


def _has_clips(shard: str) -> bool:
    """Whether a parquet file has the column `audio`, which a dataset has and a manifest does not."""
    import pyarrow.parquet as pq

    with remote.opened(shard) as file, reading_parquet(shard):
        return "audio" in pq.read_schema(file).names


def num_rows(shard: str) -> int:
    """How many rows a shard has, by its path or URL."""
    import pyarrow.parquet as pq

    with remote.opened(shard) as file, reading_parquet(shard):
        return int(pq.read_metadata(file).num_rows)


def open_hub(name: str, revision: str | None = None) -> Dataset:
    """A dataset of the Hub, `org/name`, whose shards are fetched into the client's cache when they are reached.

    Args:
      name: of the dataset.
      revision: a commit, branch or tag; None for the pinned one, or `main` where none is pinned.

    Raises:
      HubError: it cannot be fetched.
      InputError: it has another layout.
    """
    revision = revision or pinned_revision(name)
    commit, files = hub.list_dataset(name, revision)
    if LABELS in files and not any(Path(file).match(f"data/{_SHARDS}") for file in files):
        raise InputError(
            f"{name} at {commit}: a dataset with labels only. Get its clips as its card describes, score them, and "
            f"evaluate the scores with --dataset {name} --revision {commit}"
        )
    shards = shards_among(files, f"{name} at {commit}")
    labels = hub.fetch_dataset_file(name, commit, LABELS) if LABELS in files else None

    def fetch(shard: str) -> Callable[[], str]:
        return lambda: str(hub.fetch_dataset_file(name, commit, shard))

    def add_others(skipped: SkippedInputs) -> None:
        for file in files:
            if file.endswith(".parquet") and file not in (*shards, LABELS):
                skipped.add(file)

    return Dataset(f"{name}@{commit}", [fetch(shard) for shard in shards], labels, commit, add_others)


def shards_among(files: Iterable[str], dataset: str) -> list[str]:
    """The names of a dataset's shards, in order, among those of its files on the Hub.

    Args:
      files: all names.
      dataset: its name and revision, for messages.

    Raises:
      InputError: there are none, or some are missing.
    """
    files = list(files)
    shards = sorted(file for file in files if Path(file).match(f"data/{_SHARDS}"))
    if not shards:
        raise InputError(f"{dataset}: no data/{_SHARDS} in it, but {len(files)} other files")
    # Without a connection to the Hub, only the files in the cache can be listed.
    stated = _NUM_SHARDS.search(shards[0])
    if stated and len(shards) != int(stated[1]):
        raise InputError(
            f"{dataset}: {len(shards)} of its {int(stated[1])} shards can be found. Without a network these "
            "are the ones fetched before; connect to the network and run the same command again."
        )
    return shards


def pinned_revision(name: str) -> str:
    """The revision that the published scores are of, where it is known; else `main`."""
    organisation, _, dataset = name.partition("/")
    return PINNED.get(dataset, "main") if organisation == ORGANISATION else "main"


def _add_others(folder: str, shards: frozenset[str], skipped: SkippedInputs) -> None:
    """Count the files of a folder that are not its shards: clips beside them, shards of other splits."""
    for path in walk(Path(folder), skipped, every=True):
        if str(path) not in shards and path.name != Path(LABELS).name:
            skipped.add(path)


def _path_in(shard: str, path: str) -> Path | str:
    return f"{shard}/{path}" if is_url(shard) else Path(shard) / path


def _trials_of_labels(path: Path, stamp: str | None) -> Iterator[Trial]:
    """The trials of a labels.parquet, without their clips."""
    labels = read_labels(path)
    words: tuple[Label, Label] = ("spoof", "bonafide")
    return (
        Trial(str(name), Path(path.name), words[bool(bonafide)], stamp=stamp)
        for name, bonafide in zip(labels.utterance_ids, labels.bonafide, strict=True)
    )


def _trials(shard: str, *, clips: bool, start: int = 0) -> Iterator[Trial]:
    """The trials of a shard from row `start` on."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [name for name in _COLUMNS if clips or name != "audio"]
    invalid: list[str] = []
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
            raise InputError(f"{shard}: column audio is {kind}; in a dataset it is a struct of bytes and path")
        # Row groups that end before `start` are not read at all.
        ends = np.cumsum([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
        groups = [group for group, end in enumerate(ends) if end > start]
        row = int(ends[groups[0] - 1]) if groups and groups[0] else 0
        size = ROWS_WITH_CLIPS if clips else _ROWS
        for batch in file.iter_batches(size, row_groups=groups, columns=columns, use_threads=False):
            before = min(max(start - row, 0), len(batch))
            row += before
            for values in batch.slice(before).to_pylist():
                trial = _trial(shard, values, clips=clips)
                if isinstance(trial, Trial):
                    yield trial
                else:
                    invalid.append(f"row {row}: {trial}")
                row += 1
    if invalid:
        raise InputError(f"{shard}: {count(len(invalid), 'row')} without a valid trial:{examples(invalid)}")


def _trial(shard: str, values: dict[str, Any], *, clips: bool) -> Trial | str:
    """The trial of a row, or why the row has none."""
    try:
        name = parse_json(values["notes"], finite=False)["utterance_id"]
    except (TypeError, ValueError, KeyError):
        name = None
    if name is None:
        return f"notes {values['notes']!r:.100} without an utterance_id"
    if not isinstance(values["label"], int | float) or values["label"] not in _LABELS:
        return f"label {values['label']!r} of {name!r}, neither 0 (bona fide) nor 1 (spoof)"
    trial = Trial(str(name), _path_in(shard, str(values["path"])), _LABELS[values["label"]])
    return _with_clip(trial, shard, values["audio"] or {}) if clips else trial


def _with_clip(trial: Trial, shard: str, audio: dict[str, Any]) -> Trial:
    """The trial with its clip's bytes or the path of its file, or else with the reason why it has neither."""
    if audio.get("bytes") is not None:
        return replace(trial, content=audio["bytes"])
    path = audio.get("path")
    if not path:
        return replace(trial, problem=f"{trial.path}: neither bytes nor a path in the column audio")
    file = remote.beside(shard, str(path))
    if isinstance(file, Path) and os.path.exists(file):  # noqa: PTH110
        return replace(trial, path=file)
    reason = "which does not exist" if isinstance(file, Path) else "which is read only if the dataset is local"
    return replace(trial, problem=f"{trial.path}: no bytes in the column audio but the path {path!r}, {reason}")
