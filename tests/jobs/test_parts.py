"""The parquet files of a run's parts."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tests.programs.runs import finish, open_run, write_inputs


def test_parts_of_an_earlier_version_are_scored_again(tmp_path: Path) -> None:
    """They had neither checksums nor stamps."""
    inputs = write_inputs(tmp_path / "inputs", 18)
    expected = finish(open_run(tmp_path / "run", inputs))
    part = tmp_path / "run" / "parts" / "part-000001.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["stamp"]), part)
    run = open_run(tmp_path / "run", inputs)
    assert run.pending() == [1]
    assert "has no checksum: it is damaged, or was written by an earlier version" in run.unusable[1]
    assert finish(run) == expected


def test_any_parquet_reader_reads_all_parts(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    finish(open_run(tmp_path / "run", inputs))
    table = pq.read_table(tmp_path / "run" / "parts")
    assert table["utterance_id"].to_pylist() == [f"{index:03d}" for index in range(18)]
    assert table["stamp"][3].as_py() == f"6:{(inputs / '003.wav').stat().st_mtime_ns}"
