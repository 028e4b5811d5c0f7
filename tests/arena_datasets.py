"""Datasets in the Arena's layout, which several tests write."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from spectra_jax.arena.result import System
from spectra_jax.data.sources import arena as dataset
from tests.golden import recipe

NAME = f"{dataset.ORGANISATION}/InTheWild"
COMMIT = dataset.PINNED["InTheWild"]
SYSTEM = System("Mine", "mine-1", "A detector.", "https://example.org/code", "https://example.org/weights")
# What `evaluate --result` asks for, besides a name and a dataset.
STATED = [
    *("--slug", "mine-1", "--description", "d", "--code", "https://example.org/c"),
    *("--checkpoint", "https://example.org/w", "--hf-username", "me", "--contact", "me@example.org"),
    *("--scores-url", "https://huggingface.co/me/m/resolve/0123abc/s.txt"),
    *("--bench-version", "speech-spoof-bench==0.4.1"),
]
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "audio": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "label": pa.int8(),
        "notes": pa.string(),
    }
)


def flac(seed: int) -> bytes:
    """A clip."""
    file = io.BytesIO()
    soundfile.write(file, recipe.waveform(seed, 9000), 16000, format="FLAC")
    return file.getvalue()


def row(index: int, **changed: object) -> dict[str, Any]:
    """Row number `index` of a dataset, with other values in some columns."""
    audio = {"bytes": flac(index), "path": f"{index}.flac"}
    notes = json.dumps({"utterance_id": f"trial_{index}", "attack": "A01"})
    return {"path": f"{index}.flac", "audio": audio, "label": index % 2, "notes": notes} | changed


def shard(rows: list[dict[str, Any]]) -> bytes:
    """A parquet file of these rows."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, row_group_size=3)
    return file.getvalue()


def labels_file(ids: list[str], labels: list[int]) -> bytes:
    """A `labels.parquet`."""
    file = io.BytesIO()
    pq.write_table(pa.table({"utterance_id": ids, "label": pa.array(labels, pa.int8())}), file)
    return file.getvalue()
