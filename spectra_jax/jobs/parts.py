"""The parts of a run: parquet files of results in input order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from spectra_jax.errors import UnusableFileError
from spectra_jax.inference.results import Result
from spectra_jax.jobs import checksummed
from spectra_jax.jobs.store import Store

SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),  # position in the input, from 0
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # path or URL
        pa.field("label", pa.string()),
        pa.field("score", pa.float64()),  # null for a skipped trial
        pa.field("logit_spoof", pa.float64()),
        pa.field("logit_bonafide", pa.float64()),
        pa.field("seconds", pa.float64()),
        pa.field("sha256", pa.string()),  # of the samples
        pa.field("stamp", pa.string()),  # of the file, such as its size and time of modification
        pa.field("flags", pa.list_(pa.string()), nullable=False),
        pa.field("error", pa.string()),
        pa.field("smallest_rank_gap", pa.float64()),
        pa.field("rank_gap_pool", pa.string()),
        pa.field("window_scores", pa.list_(pa.float64())),
    ]
)
FOLDER, REPLACED = "parts", "replaced"


def file_name(part: int) -> str:
    """The file of a part, below the run's folder."""
    return f"{FOLDER}/part-{part:06d}.parquet"


def number_of(name: str) -> int | None:
    """The number of the part in a file, from the file's name; None if it is not the name of a part."""
    stem = name.removeprefix("part-").removesuffix(".parquet")
    return int(stem) if name == f"part-{stem}.parquet" and stem.isdigit() else None


def in_whole_batches(part_size: int, batch_size: int) -> int:
    """Trials of a part, rounded up to whole batches."""
    return -(-part_size // batch_size) * batch_size


def existing_parts(store: Store) -> set[int]:
    """The numbers of all parts that have a file."""
    return {number for name in store.names(FOLDER) if (number := number_of(name)) is not None}


def row(index: int, result: Result) -> dict[str, Any]:
    """A result as a row of `SCHEMA`."""
    spoof, bonafide = result.logits or (None, None)
    return {
        "index": index,
        "utterance_id": _utf8(result.trial.utterance_id),
        "source": _utf8(str(result.trial.path)),
        "label": result.trial.label,
        "score": result.score,
        "logit_spoof": spoof,
        "logit_bonafide": bonafide,
        "seconds": result.seconds,
        "sha256": result.sha256,
        "stamp": result.trial.stamp,
        "flags": list(result.flags),
        "error": None if result.error is None else _utf8(result.error),
        "smallest_rank_gap": result.rank_gap,
        "rank_gap_pool": result.rank_gap_pool,
        "window_scores": None if result.window_scores is None else list(result.window_scores),
    }


def _utf8(text: str) -> str:
    """`text` with bytes that are not UTF-8 escaped: a path or an id may have them, and parquet holds UTF-8 only."""
    return text.encode(errors="backslashreplace").decode()


def write_part(store: Store, part: int, run: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write a part of the run with the digest `run`, atomically."""
    store.write(file_name(part), checksummed.encode([pa.Table.from_pylist(list(rows), schema=SCHEMA)], SCHEMA, run))


def read_part(store: Store, part: int, columns: list[str] | None = None) -> pa.Table:
    """Read a part's rows after checking its checksum.

    Raises:
      FileNotFoundError: the part has no file.
      InputError: it is damaged, or was written by an earlier version.
    """
    return checksummed.read(store, file_name(part)).read(columns)


def check_part(store: Store, part: int, run: str, stamps: Sequence[str | None]) -> int:
    """Check that a part belongs to the run and holds all its trials, with these stamps; return the number skipped.

    Raises:
      FileNotFoundError: the part has no file.
      UnusableFileError: the file holds something else.
    """
    table = checksummed.read(store, file_name(part), run).read(["stamp", "error"])
    path = store.path(file_name(part))
    if len(table) != len(stamps):
        raise UnusableFileError(f"{path}: holds {len(table)} trials instead of {len(stamps)}")
    if table["stamp"].to_pylist() != list(stamps):
        raise UnusableFileError(f"{path}: its inputs have changed since")
    return len(table) - int(table["error"].null_count)


def keep_copy(store: Store, part: int) -> None:
    """Copy a part that is about to be replaced to the folder `replaced`."""
    with suppress(FileNotFoundError):
        store.write(f"{REPLACED}/{file_name(part).removeprefix(f'{FOLDER}/')}", store.read(file_name(part)))


class CompletedParts:
    """Which parts of a run are complete. A part is checked once; later calls look for new files only.

    Attributes:
      skipped: for each complete part the number of its skipped trials.
      unusable: for each part that has a file and must be scored again, what is wrong with the file.

    Args:
      store: the run's folder.
      run: the run's digest.
      num_parts: of the run.
      stamps: returns the recorded stamps of a part's trials.
    """

    def __init__(self, store: Store, run: str, num_parts: int, stamps: Callable[[int], Sequence[str | None]]):
        self._store, self._run, self._num_parts, self._stamps = store, run, num_parts, stamps
        self.skipped: dict[int, int] = {}
        self.unusable: dict[int, str] = {}

    def missing(self) -> list[int]:
        """Look at the files again, and return the parts that are not complete."""
        unchecked = existing_parts(self._store) - self.skipped.keys()
        for part in sorted(unchecked & set(range(self._num_parts))):
            try:
                self.skipped[part] = check_part(self._store, part, self._run, self._stamps(part))
            except FileNotFoundError:
                continue
            except UnusableFileError as error:
                self.unusable[part] = str(error)
            else:
                self.unusable.pop(part, None)
        return [part for part in range(self._num_parts) if part not in self.skipped]
