"""Progress bars, and the lines that report a run."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from spectra_jax.cli.progress import RunReporter, progress_bar
from spectra_jax.inference.windows import WindowPolicy
from spectra_jax.jobs.scoring import score_to_run
from tests.programs.runs import open_run, write_inputs


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_shown_on_a_terminal_only(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with progress_bar("scoring", 5, completed=1, status="compiling", console=console) as update:
        update(3, "7 windows")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("scoring", "3/5", "7 windows"):
        assert (words in shown) == terminal


def test_a_run_is_reported_when_it_starts_resumes_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    run = open_run(tmp_path / "run", inputs)
    next(iter(run))
    run = open_run(tmp_path / "run", inputs)
    reporter = RunReporter(run)
    reporter.report_summary(score_to_run(run, on_part=reporter.report_part))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{tmp_path}/run: 6 of 18 trials were scored already; resuming"
    assert lines[1].startswith("part 3 of 3: 12 trials, 1 skipped, ") and lines[1].endswith("about 0 s left")
    assert lines[2] == f"16 of 18 trials scored, 2 skipped -> {tmp_path}/run/scores.txt"
    assert lines[3:] == ["skipped 005: broken", "skipped 012: broken"]


def test_parts_of_other_processes_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run(tmp_path / "run", write_inputs(tmp_path / "inputs", 18), process=(0, 3))
    reporter = RunReporter(run)
    reporter.report_summary(score_to_run(run, on_part=reporter.report_part))
    assert "2 parts are left to other processes" in capsys.readouterr().err
    assert not (tmp_path / "run" / "scores.txt").exists()


def test_windows_are_counted_only_where_all_are_scored(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 6)
    first = open_run(tmp_path / "first", inputs)
    every = open_run(tmp_path / "every", inputs, window_policy=WindowPolicy(1.0, "mean"))
    for run in (first, every):
        RunReporter(run)
    assert first.on_progress is None
    assert every.on_progress is not None
