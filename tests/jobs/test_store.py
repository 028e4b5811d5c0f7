"""Runs at URLs, and local folders that are named by a URL."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from spectra_jax.errors import InputError
from spectra_jax.inference.scorer import Scorer
from spectra_jax.jobs import Store
from tests.jobs.conftest import open_clips
from tests.programs.runs import finish, open_run, write_inputs


def test_a_run_at_a_url(clips: Path, scorer: Scorer, undisturbed: bytes) -> None:
    fs = fsspec.filesystem("memory")
    try:
        parts = iter(open_clips("memory://runs/a", clips, scorer))
        next(parts)
        parts.close()  # type: ignore[attr-defined]
        run = open_clips("memory://runs/a", clips, scorer)
        assert run.pending() == [1, 2, 3]
        assert finish(run) == undisturbed
    finally:
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]
    with pytest.raises(InputError, match="nowhere"):
        Store("nowhere://x")


def test_files_at_a_url_are_checked_as_well(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    inputs = write_inputs(tmp_path / "inputs", 8)
    try:
        expected = finish(open_run("memory://runs/b", inputs))
        part = "/runs/b/parts/part-000000.parquet"
        data = bytearray(fs.cat(part))
        data[100] ^= 1
        fs.pipe(part, bytes(data))
        run = open_run("memory://runs/b", inputs)
        assert run.unusable == {} and run.pending() == [0]
        assert run.unusable == {
            0: "memory://runs/b/parts/part-000000.parquet: is damaged: its bytes do not match its checksum"
        }
        assert finish(run) == expected
        assert fs.cat("/runs/b/replaced/part-000000.parquet") == bytes(data)
        fs.pipe("/runs/b/run.json", b"{")
        with pytest.raises(InputError, match=r"memory://runs/b: its run\.json is damaged"):
            open_run("memory://runs/b", inputs)
        fs.rm("/runs/b/run.json")
        assert open_run("memory://runs/b", inputs).pending() == []
        fs.pipe("/runs/c/notes.md", b"")
        with pytest.raises(InputError, match=r"memory://runs/c: holds other files and no run\.json, such as notes\.md"):
            open_run("memory://runs/c", inputs)
    finally:
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 8)
    expected = finish(open_run(f"file://{tmp_path}/run", inputs))
    assert (tmp_path / "run" / "scores.txt").read_bytes() == expected
    assert open_run(tmp_path / "run", inputs).pending() == []
    left = tmp_path / "run" / ".scores.txt.0123456789ab.partial"
    left.touch()
    open_run(f"file://{tmp_path}/run", inputs)
    assert not left.exists()
