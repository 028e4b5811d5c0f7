"""Datasets in the Arena's parquet layout, as trials: shard by shard, a few clips in memory at a time.

    dataset = open_local(Path("ASVspoof2019_LA"))                   # a directory with data/test-*.parquet, or one file
    dataset = open_hub("SpeechAntiSpoofingBenchmarks/InTheWild")    # shards are fetched as they are reached
    for trial in dataset: ...                                       # trial.content holds the clip's bytes

Columns: `path`, `audio` (struct of bytes and path), `label` (0 = bona fide, 1 = spoof), `notes` (JSON with
`utterance_id`). Ids and labels are listed first, from the light columns alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra_jax.trials import InputError, Label, Trial, count, examples

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
class Dataset:
    """Trials of a dataset, whose clips are read as it is iterated over.

    Attributes:
      name: what the person called it.
      listed: its trials without their clips, in order.
      shards: how to get at each shard; called when it is reached.
    """

    name: str
    listed: Sequence[Trial]
    shards: Sequence[Callable[[], Path]]

    def __len__(self) -> int:
        return len(self.listed)

    def __iter__(self) -> Iterator[Trial]:
        """Trials with their clips, a few of which are in memory at a time.

        Raises:
          InputError: a shard cannot be read, or the shards hold other trials than were listed.
        """
        to_come = {trial.utterance_id for trial in self.listed}
        for shard in self.shards:
            path = shard()
            for trial in _trials(path, clips=True):
                if trial.utterance_id not in to_come:
                    raise InputError(f"{self.name}: {path.name} has a trial not listed, or twice: {trial.utterance_id}")
                to_come.remove(trial.utterance_id)
                yield trial
        if to_come:
            names = sorted(to_come)
            raise InputError(f"{self.name}: {count(len(names), 'trial')} listed and in no shard:{examples(names)}")


def find_shards(path: Path) -> list[Path]:
    """The shards of a local dataset in order; none where `path` is something else."""
    if path.is_dir():
        return sorted(path.glob(f"data/{_SHARDS}")) or sorted(path.glob(_SHARDS))
    return [path] if path.suffix.lower() == ".parquet" and path.is_file() else []


def open_local(path: Path) -> Dataset:
    """A directory with `data/test-*.parquet` or `test-*.parquet`, or one such file.

    Raises:
      InputError: unreadable, other columns, rows without an id or with an unknown label: with counts and examples.
    """
    shards = find_shards(path)
    listed = [trial for shard in shards for trial in _trials(shard, clips=False)]
    if not listed:
        raise InputError(f"{path}: {count(len(shards), 'shard')} without a row")
    return Dataset(str(path), listed, [lambda shard=shard: shard for shard in shards])  # type: ignore[misc]


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
    listed = _listed_in(hub.fetch_dataset_file(name, commit, LABELS)) if LABELS in files else None

    def fetch(shard: str) -> Callable[[], Path]:
        return lambda: hub.fetch_dataset_file(name, commit, shard)

    if listed is None:
        listed = [trial for shard in shards for trial in _trials(fetch(shard)(), clips=False)]
    return Dataset(f"{name}@{commit}", listed, [fetch(shard) for shard in shards])


def pinned_revision(name: str) -> str:
    """The revision that the published scores were made with, where it is known; else `main`."""
    organisation, _, dataset = name.partition("/")
    return PINNED.get(dataset, "main") if organisation == ORGANISATION else "main"


def _listed_in(path: Path) -> list[Trial]:
    """Trials of a labels.parquet, without their clips."""
    from spectra_jax.labels import read_labels

    labels = read_labels(path)
    words: tuple[Label, Label] = ("spoof", "bonafide")
    return [
        Trial(str(name), Path(path.name), words[bool(bonafide)])
        for name, bonafide in zip(labels.utterance_ids, labels.bonafide, strict=True)
    ]


def _trials(shard: Path, *, clips: bool) -> Iterator[Trial]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [name for name in _COLUMNS if clips or name != "audio"]
    bad: list[str] = []
    row = 0
    try:
        with pq.ParquetFile(shard, buffer_size=_READ_AHEAD, pre_buffer=False) as file:
            missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise InputError(
                    f"{shard}: no column {', '.join(missing)}; a dataset has {', '.join(_COLUMNS)}, and this file "
                    f"{', '.join(file.schema_arrow.names)}"
                )
            kind = file.schema_arrow.field("audio").type
            if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                raise InputError(f"{shard}: column audio is {kind}; a dataset has a struct of bytes and path there")
            for batch in file.iter_batches(_ROWS if clips else 65_536, columns=columns, use_threads=False):
                for values in batch.to_pylist():
                    trial = _trial(shard, values, clips=clips)
                    if isinstance(trial, Trial):
                        yield trial
                    else:
                        bad.append(f"row {row}: {trial}")
                    row += 1
    # UnicodeDecodeError: text that is no UTF-8.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{shard}: no readable parquet file: {str(error).splitlines()[0]}") from error
    if bad:
        raise InputError(f"{shard}: {count(len(bad), 'row')} that are no trials:{examples(bad)}")


def _trial(shard: Path, values: dict[str, Any], *, clips: bool) -> Trial | str:
    """The trial of a row, or what is wrong with the row."""
    try:
        name = json.loads(values["notes"])["utterance_id"]
    except (TypeError, ValueError, KeyError):
        name = None
    if name is None:
        return f"notes {values['notes']!r} without an utterance_id"
    if not isinstance(values["label"], int | float) or values["label"] not in _LABELS:
        return f"label {values['label']!r} of {name!r}, neither 0 (bona fide) nor 1 (spoof)"
    # Rows without a clip cost that trial alone, when it is heard: no bytes are an empty file.
    content = ((values["audio"] or {}).get("bytes") or b"") if clips else None
    return Trial(str(name), shard / str(values["path"]), _LABELS[values["label"]], content)
