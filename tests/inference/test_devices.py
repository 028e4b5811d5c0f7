"""Several devices: each scores its share of the clips, with the same scores, one compile, and nothing exchanged.

XLA presents a CPU as several devices where a flag requests it before JAX starts, so everything runs once, in a process
of its own: `tests/programs/score_on_devices.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tolerances import LOGITS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

# What each run of the program found, by its name.
Found = dict[str, Any]


@pytest.fixture(scope="module")
def found() -> Found:
    """What scorers on the first 1, 2, 4 and 8 of eight devices did."""
    # Unoptimised code takes half the time to compile, and nothing here measures speed.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    # What JAX finds in its own cache is not stored in ours.
    environment |= {"JAX_COMPILATION_CACHE_DIR": ""}
    command = [sys.executable, "-m", "tests.programs.score_on_devices"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found: Found = json.loads(run.stdout)
    return found


def largest_difference(left: list[list[float]], right: list[list[float]]) -> float:
    assert len(left) == len(right)
    return max(abs(a - b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_scores_do_not_depend_on_the_number_of_devices(found: Found, devices: int) -> None:
    """In float64, where a device's share of 8, 4, 2 or 1 clips changes only the order of sums."""
    alone, together = found["float64 1"], found[f"float64 {devices}"]
    assert together["dtype"] == "float64"
    assert len(together["logits"]) == 11
    assert largest_difference(together["logits"], alone["logits"]) < LOGITS["float64"]


def test_float32_scores_are_those_of_one_device(found: Found) -> None:
    """With one clip a device, each runs what a single device runs, so near ties are ranked alike too."""
    assert found["float32 8"]["dtype"] == "float32"
    assert largest_difference(found["float32 8"]["logits"], found["float32 1"]["logits"]) < 1e-6


def test_a_cached_executable_runs_on_the_same_devices_only(found: Found) -> None:
    assert found["float32 8 cached"]["logits"] == found["float32 8"]["logits"]
    assert (found["float32 8"]["compiles"], found["float32 8 cached"]["compiles"]) == (1, 0)
    assert found["keys"] == [True, False]


@pytest.mark.parametrize("what", ["float64 1", "float64 2", "float64 4", "float64 8", "float32 8", "float32 8 cached"])
def test_each_device_scores_its_share_alone(found: Found, what: str) -> None:
    run, devices = found[what], int(what.split()[1])
    exchanges = (
        "all-reduce",
        "all-gather",
        "all-to-all",
        "collective-permute",
        "reduce-scatter",
        "collective-broadcast",
    )
    assert "fusion" in run["program"], "the compiled program has no fusion to search"
    assert [name for name in exchanges if name in run["program"]] == []
    assert run["weights on"] == [devices]
    assert run["weights replicated"]
    assert run["clips on"] == [8 // devices] * devices


def test_one_compile_serves_every_number_of_clips(found: Found) -> None:
    for devices in (1, 2, 4, 8):
        run = found[f"float64 {devices}"]
        assert run["compiles at load"] == run["compiles"], "scoring compiled something"
    # What loading compiles besides the network (conversions of weights) was compiled once, for the first of them.
    assert found["float64 8"]["compiles"] == 1


def test_the_batch_is_rounded_up_to_the_devices(found: Found) -> None:
    run = found["rounded up"]
    assert run["batch_size"] == 2
    assert run["weights on"] == [2]
    assert largest_difference(run["logits"], found["float32 1"]["logits"]) < 1e-6


def test_the_pure_function_runs_under_pmap(found: Found) -> None:
    assert largest_difference(found["pmap"]["logits"], found["jit"]) < 1e-6
    # JAX keeps pmap for old programs and may warn about that; it warns about nothing else.
    assert [message for message in found["pmap"]["warnings"] if "pmap" not in message] == []
