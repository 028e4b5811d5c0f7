"""Parts of a run: parquet files of results in input order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from spectra_jax.errors import UnusableFileError
from spectra_jax.inference.results import Result
from spectra_jax.jobs import certified
from spectra_jax.jobs.store import Store

SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),  # place in the input, from 0
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


def name_of(part: int) -> str:
    return f"{FOLDER}/part-{part:06d}.parquet"


def number_of(name: str) -> int | None:
    """The part that a file's name stands for."""
    stem = name.removeprefix("part-").removesuffix(".parquet")
    return int(stem) if name == f"part-{stem}.parquet" and stem.isdigit() else None


def row(index: int, result: Result) -> dict[str, Any]:
    spoof, bonafide = result.logits or (None, None)
    return {
        "index": index,
        "utterance_id": _text(result.trial.utterance_id),
        "source": _text(str(result.trial.path)),
        "label": result.trial.label,
        "score": result.score,
        "logit_spoof": spoof,
        "logit_bonafide": bonafide,
        "seconds": result.seconds,
        "sha256": result.sha256,
        "stamp": result.trial.stamp,
        "flags": list(result.flags),
        "error": None if result.error is None else _text(result.error),
        "smallest_rank_gap": result.rank_gap,
        "rank_gap_pool": result.rank_gap_pool,
        "window_scores": None if result.window_scores is None else list(result.window_scores),
    }


def _text(text: str) -> str:
    """`text` as parquet has it, in UTF-8; a path or an id need not be."""
    return text.encode(errors="backslashreplace").decode()


def write_part(store: Store, part: int, run: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write a part of the run with the digest `run`, whole or not at all."""
    store.write(name_of(part), certified.encode([pa.Table.from_pylist(list(rows), schema=SCHEMA)], SCHEMA, run))


def read_part(store: Store, part: int, columns: list[str] | None = None) -> pa.Table:
    """A part's rows, after its checksum was checked.

    Raises:
      FileNotFoundError: it is not there.
      InputError: it is damaged, or was written by an earlier version.
    """
    return certified.read(store, name_of(part)).read(columns)


def require_whole(store: Store, part: int, run: str, stamps: Sequence[str | None]) -> int:
    """See that a part is the run's and has all its trials, whose files have these stamps: how many were skipped.

    Raises:
      FileNotFoundError: it is not there.
      UnusableFileError: it is something else.
    """
    table = certified.read(store, name_of(part), run).read(["stamp", "error"])
    path = store.path(name_of(part))
    if len(table) != len(stamps):
        raise UnusableFileError(f"{path}: {len(table)} trials instead of {len(stamps)}")
    if table["stamp"].to_pylist() != list(stamps):
        raise UnusableFileError(f"{path}: inputs have changed since")
    return len(table) - int(table["error"].null_count)


def put_aside(store: Store, part: int) -> None:
    """Keep a copy of a part that is about to be made again, where nothing reads it."""
    with suppress(FileNotFoundError):
        store.write(f"{REPLACED}/{name_of(part).removeprefix(f'{FOLDER}/')}", store.read(name_of(part)))
