"""Results of several runs in one file: what a run replaces, what it keeps, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import render
from benchmarks.speed.results import Machine, MergeError, Results, Run, file_name

MACHINE = Machine("AMD EPYC", ("26", "2"), ("avx512f",), 2, 2**30, {"platform": "cpu", "count": 1, "kind": "cpu"})
FIRST = Run("2026-01-01T10:00:00", "a" * 40, False, None, "Linux", "3.11", {"jax": "0.10.2", "jaxlib": "0.10.2"})
SECOND = replace(FIRST, date="2026-01-02T10:00:00", commit="b" * 40, packages={**FIRST.packages, "openvino": "2026"})


def compared(peer: str, seconds: float) -> dict[str, Any]:
    return {"peer": peer, "batch": 1, "seconds": {"ours-float32": [1.0], peer: [seconds]}, "errors": {}}


@pytest.fixture
def results() -> Results:
    """The first run: two peers, the stages and the peak."""
    found = Results("full", MACHINE, {"clip": 10**9, "encoder": 10**9})
    peers = [compared("torch-float32", 3.0), compared("openvino-float32", 1.0)]
    for name, value in {"peak": {"float32": {"XLA": 2e9}}, "comparisons": peers, "devices": []}.items():
        found = found.with_section(name, value, FIRST)
    return found


def test_a_run_replaces_its_own_section(results: Results) -> None:
    merged = results.with_section("peak", {"float32": {"XLA": 4e9}}, SECOND)
    assert merged.sections == {**results.sections, "peak": {"float32": {"XLA": 4e9}}}
    assert [(run.commit, run.parts) for run in merged.runs] == [
        (FIRST.commit, ("comparisons/openvino-float32", "comparisons/torch-float32", "devices")),
        (SECOND.commit, ("peak",)),
    ]


def test_a_run_replaces_the_rows_of_its_own_peers(results: Results) -> None:
    merged = results.with_section("comparisons", [compared("openvino-float32", 2.0)], SECOND)
    assert render.times_as_fast(merged, "ours-float32", "openvino-float32", 1) == 2
    assert render.times_as_fast(merged, "ours-float32", "torch-float32", 1) == 3
    assert merged.runs[0].parts == ("peak", "comparisons/torch-float32", "devices")


def test_a_later_section_of_a_run_joins_the_earlier_ones(results: Results) -> None:
    merged = results.with_section("peak", {}, SECOND).with_section("cold", [], SECOND)
    assert [run.parts for run in merged.runs[1:]] == [("peak", "cold")]


def test_a_run_that_measures_everything_replaces_the_earlier_ones(results: Results) -> None:
    merged = results
    for name, value in results.sections.items():
        merged = merged.with_section(name, value, SECOND)
    assert [run.commit for run in merged.runs] == [SECOND.commit]


def test_seconds_of_ours_are_of_the_last_run(results: Results) -> None:
    row = compared("openvino-float32", 2.0)
    row["seconds"]["ours-float32"] = [0.25]
    merged = results.with_section("comparisons", [row], SECOND)
    assert render.seconds_a_clip(merged)["ours-float32", 1] == 0.25


def test_the_report_gives_date_commit_and_changed_versions_of_each_run(results: Results) -> None:
    row = compared("openvino-float32", 2.0)
    report = render.report(results.with_section("comparisons", [row], SECOND))
    parts = "peak, comparisons (PyTorch eager float32), devices"
    assert f"| {parts} | 2026-01-01 10:00 | aaaaaaaaaaaa | the first |" in report
    assert "| comparisons (OpenVINO float32) | 2026-01-02 10:00 | bbbbbbbbbbbb | openvino 2026 |" in report
    assert "When it was measured" not in render.report(results)


def test_what_is_written_is_read_again(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": "tiny"}, "network full instead of tiny"),
        ({"machine": replace(MACHINE, cores=4)}, "cores 2 instead of 4"),
        ({"machine": replace(MACHINE, cpu="Intel")}, "cpu AMD EPYC instead of Intel"),
        ({"runs": (replace(FIRST, packages={"jax": "0.12", "jaxlib": "0.10.2"}),)}, "jax 0.10.2 instead of 0.12"),
    ],
)
def test_results_of_other_machines_and_versions_of_jax_are_refused(
    results: Results, changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    results.write(tmp_path / "a.json")
    with pytest.raises(MergeError, match=f"a.json has results with {message}: name another file"):
        replace(results, **changed).at(tmp_path / "a.json")


def test_memory_and_other_packages_may_change(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "a.json")
    machine = replace(MACHINE, memory_bytes=2**31)
    assert replace(results, machine=machine, runs=(SECOND,), sections={}).at(tmp_path / "a.json") == results


@pytest.mark.parametrize(
    ("cpu", "family_model", "name"),
    [
        ("AMD EPYC", ("26", "2"), "zen5-2-cores-jax-0.12"),
        ("AMD EPYC", ("25", "17"), "zen4-2-cores-jax-0.12"),
        ("AMD EPYC", ("25", "1"), "zen3-2-cores-jax-0.12"),
        ("Intel(R) Xeon(R) Processor", ("6", "143"), "sapphire-rapids-2-cores-jax-0.12"),
        ("Neoverse-V2", (None, None), "neoverse-v2-2-cores-jax-0.12"),
    ],
)
def test_results_are_named_by_cpu_cores_and_jax(cpu: str, family_model: tuple[str | None, ...], name: str) -> None:
    assert file_name(replace(MACHINE, cpu=cpu, cpu_family_model=family_model), "0.12.0.1") == name
