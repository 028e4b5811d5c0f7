"""The speed benchmark: what it counts, how it holds its workers, what it says of those that fail."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks.speed import flops, render
from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.measure import Remote, WorkerError, in_turn, loaded
from benchmarks.speed.network import Network
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import abstract_model
from tests.conftest import GOLDEN

ROOT = Path(__file__).parents[2]

needs_processes = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: the kernel ends orphaned workers")


def xla_flops(module: nnx.Module, samples: int) -> float:
    graph, params = nnx.split(module)
    run = jax.jit(lambda params, windows: nnx.merge(graph, params)(windows))
    traced = run.trace(params, jax.ShapeDtypeStruct((1, samples), np.float32))
    # As for a GPU: a CPU extracts features in a loop, whose body XLA counts once.
    return traced.lower(lowering_platforms=("cuda",)).cost_analysis()["flops"]


def test_operations_of_the_full_encoder_are_what_xla_counts() -> None:
    """XLA also counts norms and activations, 1.7 % of this encoder; a layer forgotten would be 3.5 %."""
    config = SpectraConfig()
    found = xla_flops(abstract_model(config).encoder, config.num_samples)
    counted = flops.clip_flops(config, config.num_samples, encoder_only=True)
    assert counted < found < 1.03 * counted


def test_operations_of_the_tiny_network_are_what_xla_counts() -> None:
    """Wide of the mark by 10 %: norms and splines weigh more in it, and XLA counts the body of a loop once."""
    config = SpectraConfig.from_json(GOLDEN / "tiny" / "config.json")
    found = xla_flops(abstract_model(config), config.num_samples)
    assert found == pytest.approx(flops.clip_flops(config, config.num_samples), rel=0.15)


def test_every_contender_has_a_name_of_its_own() -> None:
    assert len(CONTENDERS) == len({contender.label for contender in CONTENDERS.values()})
    assert all(name == contender.name for name, contender in CONTENDERS.items())


@pytest.fixture
def tiny(tmp_path: Path) -> Network:
    network = Network("tiny", tmp_path)
    network.make()
    return network


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra `bench`: torch")
def test_workers_take_turns_and_agree(tiny: Network) -> None:
    names = ["ours-float32", "torch-float32"]
    with loaded(tiny, names[0]) as ours, loaded(tiny, names[1]) as peer:
        row = in_turn([ours, peer], 2, 16000, rounds=3, seconds=600)
        assert row["errors"] == {}
        assert {name: len(seconds) for name, seconds in row["seconds"].items()} == dict.fromkeys(names, 3)
        outputs = [np.array(worker.ask("output", batch=2, samples=16000)["output"]) for worker in (ours, peer)]
    assert outputs[0].shape == (2, 2)
    # float32 against float32: the bound of the parity tests.
    np.testing.assert_allclose(*outputs, atol=1e-4, rtol=0)


@pytest.mark.slow
@needs_processes
def test_a_failing_and_a_killed_worker_say_why(tiny: Network) -> None:
    with Remote(tiny) as worker:
        with pytest.raises(WorkerError, match="started without a contender"):
            worker.ask("load")
        assert worker.ask("memory", reset=True)["peak_bytes"] > 0  # it goes on
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"killed by SIGKILL.*memory runs out"):
            worker.ask("memory")


@pytest.mark.slow
@needs_processes
def test_no_worker_outlives_a_killed_benchmark(tiny: Network) -> None:
    code = (
        "import sys, time; from pathlib import Path; from benchmarks.speed.measure import Remote, Network\n"
        "worker = Remote(Network('tiny', Path(sys.argv[1])))\n"
        "worker.ask('memory'); print(worker.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tiny.work)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stdout is not None
        pid = int(benchmark.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        benchmark.kill()
    deadline = time.monotonic() + 20
    while _alive(pid):
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def results() -> dict:
    """A run in which PyTorch took twice as long as ours, and OpenVINO was missing."""
    where = {
        "date": "2026-01-01",
        "commit": "0" * 40,
        "uncommitted_changes": False,
        "cpu": "a CPU",
        "cores": 2,
        "memory_bytes": None,
        "cpu_flags": [],
        "python": "3.11",
        "packages": {"jax": "0.10.2", "torch": None},
        "devices": {"platform": "cpu", "count": 1, "kind": "cpu"},
    }
    compared = [
        {
            "peer": "torch-float32",
            "batch": 8,
            "samples": 64600,
            "errors": {},
            "seconds": {"ours-float32": [4.0, 5.0, 4.0], "torch-float32": [8.0, 8.0, 12.0]},
            "differences": {"ours-float32": 2e-5},
        },
        {"peer": "openvino-float32", "batch": None, "seconds": {}, "errors": {"openvino-float32": "not installed"}},
    ]
    return {
        "mode": "quick",
        "network": "full",
        "environment": where,
        "comparisons": compared,
        "flops": {"clip": 50e9, "encoder": 40e9},
        "peak": {"float32": 200e9},
    }


def test_the_report_gives_ratios_shares_and_reasons() -> None:
    report = render.report(results())
    assert "| PyTorch eager float32 | 8 | 1.000 | 0.500 | 2.00 (2.00) | 3 |" in report
    # 50 GFLOP in half a second are 100 GFLOP/s, half of the peak.
    assert "| spectra-jax float32 | 8 | 0.500 | 100 GFLOP/s | 50% |" in report
    assert "| OpenVINO float32 | any | not installed |" in report
    assert "2.0e-05" in report
    assert "torch missing" in report
    # Whoever reaches it: XLA's rate is not the machine's peak where numpy's is higher.
    report = render.report({**results(), "peak": {"numpy float32": 400e9, "float32": 200e9}})
    assert "| spectra-jax float32 | 8 | 0.500 | 100 GFLOP/s | 25% |" in report


@pytest.mark.parametrize(("load", "warned"), [(0.9, False), (1.1, True)])
def test_a_busy_machine_is_told_of(load: float, warned: bool) -> None:
    found = render.load_warning({"cores": 2, "load_average_at_start": [load, 0.0, 0.0]})
    assert (found is not None) == warned


def test_a_section_that_failed_is_a_table_with_its_reason() -> None:
    report = render.report({**results(), "stages": {"error": "the worker ended"}})
    assert "| the worker ended |" in report


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra `bench`: matplotlib")
def test_the_picture_names_every_contender_measured(tmp_path: Path) -> None:
    path = tmp_path / "speed.svg"
    assert render.picture(results(), path)
    text = path.read_text()
    assert "spectra-jax float32" in text
    assert "PyTorch eager float32" in text
    assert "OpenVINO" not in text
    assert not render.picture({**results(), "comparisons": {"error": "nothing"}}, path)


def test_the_tiny_network_is_the_golden_one(tiny: Network) -> None:
    import spectra_jax

    assert spectra_jax.open_checkpoint(tiny.native).config == SpectraConfig.from_json(GOLDEN / "tiny" / "config.json")
