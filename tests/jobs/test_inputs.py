"""Inputs that change before a run is resumed, or while it is scored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spectra_jax.errors import InputError
from tests.programs.runs import finish, open_run, write_inputs


def partial_run(folder: Path, inputs: Path) -> None:
    """A run of three parts, of which the first is complete."""
    parts = iter(open_run(folder, inputs))
    next(parts)
    parts.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("index", [2, 15], ids=["scored", "to be scored"])
@pytest.mark.parametrize("change", ["content", "length", "time"])
def test_an_input_that_changed_before_a_run_was_resumed_is_named(tmp_path: Path, index: int, change: str) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    partial_run(tmp_path / "run", inputs)
    changed = inputs / f"{index:03d}.wav"
    before = changed.stat()
    changed.write_bytes({"content": b"fine %d", "length": b"better %d", "time": b"good %d"}[change] % index)
    if change == "length":
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(
        InputError, match=f"1 input changed since (?s:.*)\n  '{changed.stem}' (?s:.*)with --accept-changed"
    ) as error:
        open_run(tmp_path / "run", inputs)
    assert f"('{changed}'): {before.st_size}:{before.st_mtime_ns} then, " in str(error.value)
    run = open_run(tmp_path / "run", inputs, accept_changed=True)
    assert run.pending() == ([0, 1, 2] if index < 6 else [1, 2])
    assert finish(run) == finish(open_run(tmp_path / "new", inputs))
    # It need not be accepted again.
    assert open_run(tmp_path / "run", inputs).pending() == []


def test_an_input_that_changes_during_a_run_is_named(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    parts = iter(open_run(tmp_path / "run", inputs))
    next(parts)
    (inputs / "016.wav").write_bytes(b"another")
    next(parts)
    with pytest.raises(InputError, match=r"1 input changed after .* was started:\n  '016' \(.*016\.wav'\): 7:"):
        next(parts)
    assert len(list((tmp_path / "run" / "parts").iterdir())) == 2
    with pytest.raises(InputError, match="1 input changed since"):
        open_run(tmp_path / "run", inputs)


def test_parts_store_their_own_stamps_where_the_record_is_lost(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    partial_run(tmp_path / "run", inputs)
    (tmp_path / "run" / "inputs.parquet").unlink()
    (inputs / "002.wav").write_bytes(b"another")
    run = open_run(tmp_path / "run", inputs)
    assert run.pending() == [0, 1, 2]
    assert run.unusable == {0: f"{tmp_path}/run/parts/part-000000.parquet: its inputs have changed since"}
    assert finish(run) == finish(open_run(tmp_path / "new", inputs))
