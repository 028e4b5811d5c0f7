"""The GPU benchmark: its plan, its report, workers that fail, and a smoke run on the CPU."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import __main__ as command
from benchmarks.speed import flops
from benchmarks.speed.gpu import render, run
from benchmarks.speed.gpu.plan import COMPILED, EAGER, OURS, STAGES, Case, Row, Section, sections
from spectra_jax.checkpoints.config_file import read_config
from tests.conftest import GOLDEN

needs_processes = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: the kernel ends orphaned workers")


def section(*rows: Row) -> dict[str, Any]:
    return {"rows": [row.to_dict() for row in rows], "seconds": 12.0, "limit_seconds": 30.0}


def results() -> dict[str, Any]:
    """A run in which eager PyTorch took four times as long as ours, and `torch.compile` failed."""
    where = {
        "date": "2026-01-01",
        "commit": None,
        "uncommitted_changes": False,
        "cpu": "a CPU",
        "cores": 16,
        "python": "3.12",
        "packages": {"jax": "0.11.2", "torch": None},
        "gpu": {"name": "NVIDIA H100", "driver_version": "580"},
        "flops": {"clip": 150e9, "encoder": 140e9},
    }
    ours, eager = Case(OURS, "bfloat16", 64), Case(EAGER, "bfloat16", 64)
    compiled = Case(COMPILED, "bfloat16", 64)
    return {
        "mode": "gpu",
        "smoke": False,
        "network": "full",
        "environment": where,
        "sections": {
            "peak-jax": section(Row(Case("JAX", "bfloat16"), [0.002, 0.001], amount=600e9)),
            "peak-torch": section(
                Row(Case("PyTorch", "bfloat16"), [0.001], amount=800e9),
                Row(Case("PyTorch", "copy"), [0.001], amount=3e9),
            ),
            "ours": section(Row(ours, [0.02, 0.03, 0.02], 10, 8e12, peak_bytes=2**30, difference=2e-3)),
            "eager": section(Row(eager, [0.08], 10, 8e12)),
            "compiled": section(Row(compiled, problem="RuntimeError: no | compiler")),
            "training": section(
                Row(Case(OURS, "bfloat16", 8, "activations stored"), [0.1], score=0.7),
                Row(Case(EAGER, "bfloat16", 8, "activations stored"), [0.15], score=0.7),
            ),
        },
    }


def test_the_report_gives_ratios_shares_and_reasons() -> None:
    report = render.report(results())
    assert "# Speed on NVIDIA H100" in report
    # The faster of two libraries is the peak: 8 TFLOP in 20 ms are half of it.
    assert "| bfloat16 | 800.0 TFLOP/s | PyTorch |" in report
    assert "| copy | 3000 GB/s | PyTorch |" in report
    assert "| spectra-jax, bfloat16 | 64 | 20.00 (20.00 to 30.00) | 3,200 | 50% |" in report
    assert "| PyTorch eager, bfloat16 | 64 | 4.00 | 3 | reached |" in report
    assert "| compiled: PyTorch torch.compile, bfloat16, batch 64 | RuntimeError: no / compiler |" in report
    assert "| spectra-jax | activations stored | 8 | 100.00 (100.00 to 100.00) | 1.50 |" in report
    assert "mean nothing" not in report


def test_the_summary_fits_a_terminal() -> None:
    summary = render.summary(results())
    assert max(map(len, summary.splitlines())) <= 80
    assert "spectra-jax, bfloat16    3,200" in summary
    assert "Not measured: compiled 1 of 1" in summary


def test_a_run_without_any_result_has_a_report() -> None:
    empty = {**results(), "sections": {}}
    empty["environment"] |= {"gpu": None}
    assert "# Speed on an unknown device" in render.report(empty)
    assert render.summary(empty)


def test_the_render_command_recognises_the_results(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(results()))
    command.write(path)
    assert path.with_suffix(".md").read_text() == render.report(results())


def test_the_stages_are_those_whose_operations_are_counted() -> None:
    config = read_config(GOLDEN / "tiny" / "config.json")
    assert (*flops.stage_flops(config, config.num_samples), "whole network") == STAGES


@pytest.mark.parametrize("smoke", [False, True])
def test_every_case_is_planned_once(smoke: bool) -> None:
    planned = [(part.name, case) for part in sections(smoke=smoke) for case in part.cases]
    assert len(planned) == len(set(planned)) > 30
    assert [part.name for part in sections(smoke=smoke)] == [part.name for part in sections(smoke=not smoke)]


def test_later_sections_keep_a_part_of_the_time() -> None:
    first, second = Section("first", 1, []), Section("second", 1, [])
    assert 50 < run.share_seconds(100, first, [second]) < 100
    assert run.share_seconds(100, second, []) == 100
    assert run.share_seconds(-5, first, [second]) < 0


@pytest.mark.slow
@needs_processes
def test_failures_are_rows_with_the_reason(tmp_path: Path) -> None:
    """An unknown number format fails alone; a section that ends early explains each of its missing cases."""
    plan = [
        Section("peak-jax", 1, [Case("JAX", "int3"), Case("JAX", "bfloat16")]),
        Section("unknown", 1, [Case("JAX", "float32")]),
    ]
    output = tmp_path / "gpu.json"
    run.run(output=output, work=tmp_path, minutes=10, smoke=True, commit="0" * 40, plan=plan)
    found = json.loads(output.read_text())
    assert found["environment"]["commit"]
    assert found["environment"]["flops"]["clip"] > found["environment"]["flops"]["encoder"] > 0
    failed, measured = render.rows_of(found, "peak-jax")
    assert failed.problem == "KeyError: 'int3'" and failed.seconds is None
    assert measured.problem is None and measured.seconds
    (missing,) = render.rows_of(found, "unknown")
    assert missing.problem == found["sections"]["unknown"]["problem"] == "KeyError: 'unknown'"
    assert "KeyError: 'unknown'" in output.with_suffix(".md").read_text()


@pytest.mark.slow
@needs_processes
def test_a_killed_worker_and_an_interrupted_run_leave_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [
        Section("peak-jax", 1, [Case("JAX", "bfloat16")]),
        Section("peak-torch", 1, [Case("PyTorch", "copy")]),
    ]
    start = run.Benchmark.start
    started = []

    def start_and_kill(benchmark: run.Benchmark, part: Section, seconds: float) -> run.Worker:
        started.append(part.name)
        if part.name == "peak-torch":
            raise KeyboardInterrupt
        worker = start(benchmark, part, seconds)
        if part.name == "peak-jax":
            os.kill(worker.pid, signal.SIGKILL)
        return worker

    monkeypatch.setattr(run.Benchmark, "start", start_and_kill)
    output = tmp_path / "gpu.json"
    with pytest.raises(KeyboardInterrupt):
        run.run(output=output, work=tmp_path, minutes=10, smoke=True, plan=plan)
    assert started == ["network", "peak-jax", "peak-torch"]
    found = json.loads(output.read_text())
    (killed,), (missing,) = (render.rows_of(found, part.name) for part in plan)
    assert killed.problem and killed.problem.startswith("the worker ended with SIGKILL")
    assert missing.problem == "the run ended before it was measured"


@pytest.mark.parity
@pytest.mark.long
def test_a_smoke_run_measures_every_case(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    output = tmp_path / "gpu.json"
    run.run(output=output, work=tmp_path, minutes=60, smoke=True)
    found = json.loads(output.read_text())
    for part in sections(smoke=True):
        rows = render.rows_of(found, part.name)
        assert [row.case for row in rows] == list(part.cases)
        assert {str(row.case): row.problem for row in rows if row.seconds is None} == {}
    differences = [row.difference for row in render.rows_of(found, "eager") if row.case.precision == "float32"]
    assert differences and max(value for value in differences if value is not None) < 1e-3
