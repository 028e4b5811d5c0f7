"""Parts of a run: parquet files of results in input order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spectra_jax.bulk.store import Store
from spectra_jax.results import Result

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
        pa.field("flags", pa.list_(pa.string()), nullable=False),
        pa.field("error", pa.string()),
        pa.field("smallest_rank_gap", pa.float64()),
        pa.field("rank_gap_pool", pa.string()),
        pa.field("window_scores", pa.list_(pa.float64())),
    ]
)
_RUN = b"run"
FOLDER = "parts"


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
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA.with_metadata({_RUN: run}))
    # A part is one process's to make.
    store.sweep(name_of(part))
    with store.writing(name_of(part)) as file:
        pq.write_table(table, file, compression="zstd")


def read_part(store: Store, part: int, columns: list[str] | None = None) -> pa.Table:
    """A part's rows.

    Raises:
      FileNotFoundError: it is not there.
      pyarrow.ArrowException, OSError: it is damaged.
    """
    with store.reading(name_of(part)) as source:
        return pq.read_table(source, columns=columns)


def is_whole(store: Store, part: int, run: str, num_trials: int) -> bool:
    """Whether a part is there, belongs to the run and has as many trials as it should."""
    try:
        with store.reading(name_of(part)) as source, pq.ParquetFile(source) as file:
            metadata = file.schema_arrow.metadata or {}
            return bool(metadata.get(_RUN) == run.encode() and file.metadata.num_rows == num_trials)
    # OSError: it is not there, or what pyarrow makes of a damaged footer.
    except (pa.ArrowException, OSError):
        return False
