"""The speed benchmark: what it counts, how its workers run and end, what it reports of those that fail."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks.speed import flops, render
from benchmarks.speed.contenders import CONTENDERS, Contender
from benchmarks.speed.measure import Remote, WorkerError, in_turn, loaded
from benchmarks.speed.network import Network
from benchmarks.speed.results import Machine, Results, Run
from spectra_jax.checkpoints.config_file import read_config
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
    """XLA also counts norms and activations, 1.7 % of this encoder. A layer that is not counted would be 3.5 %."""
    config = SpectraConfig()
    found = xla_flops(abstract_model(config).encoder, config.num_samples)
    counted = flops.clip_flops(config, config.num_samples, encoder_only=True)
    assert counted < found < 1.03 * counted


def test_operations_of_the_tiny_network_are_what_xla_counts() -> None:
    """Wide of the mark by 15 %: norms and splines weigh more in it, XLA counts the body of a loop once, and for a GPU
    the positional convolution is a product with a matrix of shifted kernels, a part of which are zeros."""
    config = read_config(GOLDEN / "tiny" / "config.json")
    found = xla_flops(abstract_model(config), config.num_samples)
    assert found == pytest.approx(flops.clip_flops(config, config.num_samples), rel=0.2)


def named(contender: type[Contender]) -> Iterator[type[Contender]]:
    """The subclasses that have a name, inherited ones included: of two with one name `CONTENDERS` loses the first."""
    for subclass in contender.__subclasses__():
        if hasattr(subclass, "name"):
            yield subclass
        yield from named(subclass)


def test_every_contender_is_listed_under_a_name_and_a_label_of_its_own() -> None:
    classes = list(named(Contender))  # type: ignore[type-abstract]
    assert len(classes) == len(CONTENDERS) > 10
    assert set(classes) == set(CONTENDERS.values())
    for attribute in ("name", "label"):
        counts = Counter(getattr(contender, attribute) for contender in classes)
        assert [text for text, count in counts.items() if count > 1] == []


@pytest.fixture
def tiny(tmp_path: Path) -> Network:
    network = Network("tiny", tmp_path)
    network.write()
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
        outputs = [np.array(worker.request("output", batch=2, samples=16000)["output"]) for worker in (ours, peer)]
    assert outputs[0].shape == (2, 2)
    # float32 against float32: the bound of the parity tests.
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-4, rtol=0)


@pytest.mark.slow
@needs_processes
def test_a_failing_and_a_killed_worker_report_why(tiny: Network) -> None:
    with Remote(tiny) as worker:
        with pytest.raises(WorkerError, match="started without a contender"):
            worker.request("load")
        assert worker.request("memory", reset=True)["peak_bytes"] > 0  # it continues
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"killed by SIGKILL.*memory runs out"):
            worker.request("memory")


@pytest.mark.slow
@needs_processes
def test_no_worker_outlives_a_killed_benchmark(tiny: Network) -> None:
    command = [sys.executable, "-m", "tests.programs.idle_benchmark", str(tiny.work)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stdout is not None
        worker = os.pidfd_open(int(benchmark.stdout.readline()))
        benchmark.kill()
    # Readable when the worker has ended. The limit is a guard against hanging, and bounds no speed.
    ended, _, _ = select.select([worker], [], [], 600)
    os.close(worker)
    assert ended, "the worker still runs"


def results(**sections: Any) -> Results:
    """A run in which PyTorch took twice as long as ours, and OpenVINO was missing."""
    machine = Machine("a CPU", (None, None), (), 2, None, {"platform": "cpu", "count": 1, "kind": "cpu"})
    run = Run("2026-01-01", "0" * 40, False, None, "Linux", "3.11", {"jax": "0.10.2", "torch": None})
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
    found = Results("full", machine, {"clip": 50 * 10**9, "encoder": 40 * 10**9})
    for name, value in {"comparisons": compared, "peak": {"float32": {"XLA": 200e9}}, **sections}.items():
        found = found.with_section(name, value, run)
    return found


def test_the_report_gives_ratios_shares_and_reasons() -> None:
    report = render.report(results())
    # 50 GFLOP in half a second are 100 GFLOP/s, half of the peak.
    assert "| spectra-jax float32 | 0.500 | 50% |  |" in report
    assert "| PyTorch eager float32 | 1.000 | 25% | 2.00 |" in report
    assert "| comparisons | OpenVINO float32 | not installed |" in report
    assert "2.0e-05" in report
    assert "torch missing" in report


@pytest.mark.parametrize(
    ("kind", "peak", "share"),
    [
        ("float32", {"float32": {"XLA": 200e9, "OpenVINO": 400e9}}, 0.25),
        ("bfloat16", {"float32": {"XLA": 200e9}, "bfloat16": {"XLA": 50e9}}, 0.5),
        ("bfloat16", {"float32": {"XLA": 200e9}, "bfloat16": {"XLA": 800e9}}, 0.125),
        ("int8", {"float32": {"XLA": 200e9}}, None),
    ],
)
def test_the_peak_is_of_the_fastest_library_and_at_least_that_of_float32(
    kind: str, peak: dict[str, dict[str, float]], share: float | None
) -> None:
    assert render.share_of_peak(100e9, kind, results(peak=peak)) == share


@pytest.mark.parametrize(("load", "warned"), [(0.9, False), (1.1, True)])
def test_a_busy_machine_is_reported(load: float, warned: bool) -> None:
    found = results()
    busy = replace(found, runs=(replace(found.runs[0], load_average_at_start=(load, 0.0, 0.0)),))
    assert bool(render.load_warnings(busy)) == warned


def test_a_section_that_failed_is_a_row_with_its_reason() -> None:
    report = render.report(results(stages={"error": "the worker ended"}))
    assert "| stages | all | the worker ended |" in report


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra `bench`: matplotlib")
def test_the_picture_names_every_contender_measured(tmp_path: Path) -> None:
    path = tmp_path / "speed.svg"
    assert render.picture(results(), path)
    text = path.read_text()
    assert "spectra-jax float32" in text
    assert "PyTorch eager float32" in text
    assert "OpenVINO" not in text
    assert not render.picture(results(comparisons={"error": "nothing"}), path)


def test_the_tiny_network_is_the_golden_one(tiny: Network) -> None:
    import spectra_jax

    assert spectra_jax.open_checkpoint(tiny.native).config == read_config(GOLDEN / "tiny" / "config.json")
