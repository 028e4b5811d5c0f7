"""Datasets in the Arena's layout: large row groups, other types, an incomplete cache."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectra_jax import hub
from spectra_jax.data.sources import collect
from spectra_jax.errors import HubError, InputError
from tests.arena_datasets import COMMIT, NAME, SCHEMA, row, shard
from tests.data.sources.writing import decoding_error
from tests.hub_stand_in import HubStandIn

INPUTS = Path(__file__).parents[2] / "inputs" / "sources"


def test_a_large_row_group_is_not_in_memory_at_once(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    one = row(0)
    rows = [
        one | {"audio": {"bytes": random.bytes(8000), "path": ""}, "notes": f'{{"utterance_id": "t{index}"}}'}
        for index in range(4000)
    ]
    path = tmp_path / "test-0.parquet"
    # Small pages in one large row group: a page is the least that can be read.
    small = {"use_dictionary": False, "write_batch_size": 8, "data_page_size": 1 << 16}
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, row_group_size=len(rows), **small)
    del rows
    assert pq.ParquetFile(path).num_row_groups == 1 and path.stat().st_size > 32_000_000
    trials, before, most = collect([path]), pa.total_allocated_bytes(), 0
    for trial in trials:
        assert trial.content is not None and len(trial.content) == 8000
        most = max(most, pa.total_allocated_bytes() - before)
    # Four columns' read-ahead of a mebibyte and a few pages.
    assert most < 6_000_000


@pytest.mark.parametrize(
    ("column", "kind", "value", "message"),
    [
        ("audio", pa.binary(), b"fLaC", "column audio is binary; in a dataset it is a struct of bytes and path"),
        ("audio", pa.struct({"array": pa.list_(pa.float32())}), {"array": [0.5]}, "column audio is struct<array"),
        ("label", pa.list_(pa.int8()), [1], r"label \[1\] of 'trial_0'"),
        ("notes", pa.string(), '{"utterance_id": null}', "without an utterance_id"),
    ],
)
def test_columns_of_another_type_are_refused(
    tmp_path: Path, column: str, kind: pa.DataType, value: Any, message: str
) -> None:
    schema = SCHEMA.set(SCHEMA.get_field_index(column), pa.field(column, kind))
    pq.write_table(pa.Table.from_pylist([row(0, **{column: value})], schema), tmp_path / "test-0.parquet")
    with pytest.raises(InputError, match=message):
        collect([tmp_path])


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row(0)], SCHEMA)
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")]
    )
    pq.write_table(table.set_column(3, "notes", text), tmp_path / "test-0.parquet")
    with pytest.raises(InputError, match=r"test-0.parquet: not a readable parquet file: 'utf-8'"):
        collect([tmp_path])


def test_a_dataset_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test-0.parquet").write_bytes(shard([]))
    with pytest.raises(InputError, match="1 shard without a row"):
        collect([tmp_path])


def test_an_incomplete_cache_is_refused(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"data/test-0000{part}-of-00002.parquet": shard([row(part)]) for part in range(2)}
    with HubStandIn({f"datasets/{NAME}": {COMMIT: files}}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        hub.fetch_dataset_file(NAME, COMMIT, "data/test-00000-of-00002.parquet")
        running.status = 503
        with pytest.raises(InputError, match="1 of its 2 shards can be found"):
            collect([NAME])
        running.status = None
        assert len(list(collect([NAME]))) == 2
        running.status = 503
        assert len(list(collect([NAME]))) == 2


def test_a_hub_that_does_not_respond_is_an_error(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        errors: list[Exception] = []

        def request() -> None:
            try:
                hub.list_dataset(NAME, "main")
            except HubError as error:
                errors.append(error)

        # On a thread, so that a client that waits for ever fails the test.
        requesting = threading.Thread(target=request, daemon=True)
        requesting.start()
        requesting.join(20)
    assert errors and "Cannot reach" in str(errors[0])


def test_rows_with_a_path_and_no_bytes_are_read_from_there_or_say_so(tmp_path: Path) -> None:
    (trial, *_) = collect([INPUTS / "q06_pathonly.parquet"])
    error = decoding_error(trial)
    assert error is not None and "no bytes in the column audio but the path '/tmp/h1/a/base.wav'" in error
    assert "which does not exist" in error
    clip = tmp_path / "clips" / "a.flac"
    clip.parent.mkdir()
    clip.write_bytes((Path(__file__).parents[3] / "examples" / "corpus" / "eval" / "june_00.flac").read_bytes())
    rows = [
        row(0, audio={"bytes": None, "path": "clips/a.flac"}),
        row(1, audio={"bytes": None, "path": str(clip)}),
        row(2, audio={"bytes": None, "path": None}),
        row(3, audio=None),
        row(4, audio={"bytes": b"", "path": None}),
    ]
    (tmp_path / "test-0.parquet").write_bytes(shard(rows))
    errors = [decoding_error(trial) for trial in collect([tmp_path / "test-0.parquet"])]
    assert errors[:2] == [None, None]
    for error in errors[2:4]:
        assert str(error).endswith(": neither bytes nor a path in the column audio")
    assert str(errors[4]).endswith(": empty (0 bytes)")


@pytest.mark.parametrize("notes", ["[" * 100_000, '{"utterance_id":' + "1" * 5000 + "}", "[1]", '"text"', None])
def test_notes_without_an_id_are_refused(tmp_path: Path, notes: str | None) -> None:
    (tmp_path / "test-0.parquet").write_bytes(shard([row(0, notes=notes)]))
    with pytest.raises(InputError, match="1 row without a valid trial") as caught:
        collect([tmp_path])
    assert len(str(caught.value)) < 1000


def test_files_beside_a_dataset_are_counted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("test-0.parquet", "train-0.parquet", "labels.parquet"):
        (tmp_path / "data" / name).write_bytes(shard([row(0)]))
    for name in ("README.md", "1.wav"):
        (tmp_path / name).touch()
    trials = collect([tmp_path])
    assert len(trials) == 1
    assert dict(trials.skipped_inputs.counts) == {".md": 1, ".wav": 1, ".parquet": 1}
    (tmp_path / "data" / "test-0.parquet").unlink()
    (tmp_path / "1.wav").unlink()
    with pytest.raises(InputError, match=r"2 \.parquet.*give \.parquet files by their names"):
        collect([tmp_path])
