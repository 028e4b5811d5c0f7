"""Several devices: every one its share of the clips, the same scores, one compile, and nothing exchanged.

A CPU counts as several devices where XLA is told so before JAX starts, so all of it runs in a process of its own, once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.tolerances import LOGITS

pytestmark = pytest.mark.slow

# Neither 2 nor 4 nor 8 divides this many clips, and a batch of 8 is filled once and then in part.
PROGRAM = """
import json, sys, tempfile, warnings
from pathlib import Path
import jax, numpy as np
import spectra_jax
from jax import monitoring
from spectra_jax.inference.compilation_cache import CompiledNetworks
from spectra_jax.model.config import SpectraConfig
from spectra_jax.convert import read_pytorch
from spectra_jax.inference.scorer import Scorer
from tests.conftest import GOLDEN
from tests.golden import recipe

folder = GOLDEN / "tiny"
windows = np.stack([recipe.preprocess(recipe.waveform(seed, 20000)) for seed in range(11)])
compiles = []
monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiles.append(event) if event.endswith("backend_compile_duration") else None
)

def scored(precision, devices, batch_size, kept=None):
    compiles.clear()
    # From the file: compiled from shapes alone, while the weights are read.
    scorer = Scorer(folder, precision=precision, batch_size=batch_size, devices=devices)
    scorer.load(kept=kept)
    at_load = list(compiles)
    logits = scorer.logits(windows)
    scorer.logits(windows[:1])
    network = scorer._network
    return {
        "logits": logits.tolist(),
        "dtype": str(logits.dtype),
        "batch_size": scorer.batch_size,
        "compiles": len(compiles),
        "compiles at load": len(at_load),
        "program": network.forward.as_text(),
        "weights on": sorted({len(leaf.sharding.device_set) for leaf in jax.tree.leaves(network.params)}),
        "weights whole": all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(network.params)),
        "clips on": [len(shard.data) for shard in scorer._begin(windows[:1]).addressable_shards],
    }

devices = jax.devices()
found = {f"float64 {n}": scored("float64", devices[:n], 8) for n in (1, 2, 4, 8)}
found["float32 1"] = scored("float32", devices[:1], 1)
with tempfile.TemporaryDirectory() as folder_of_kept:
    kept = CompiledNetworks(Path(folder_of_kept), print)
    for name in ("float32 8", "float32 8 kept"):
        found[name] = scored("float32", devices, 8, kept)
    # For other devices of the same kind it is another program.
    scorer = Scorer(folder)
    first, again, others = (
        kept.key(scorer._facts(SpectraConfig(), 8, of)) for of in (devices[:4], devices[:4], devices[4:])
    )
    found["keys"] = [again == first, others == first]
found["rounded up"] = scored("float32", devices[1:3], 1)

model = spectra_jax.load(folder)
forward, params = spectra_jax.split(model)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    mapped = jax.pmap(forward, in_axes=(None, 0), devices=devices[:2])(params, windows[:2].reshape(2, 1, -1))
    found["pmap"] = {"logits": np.asarray(mapped).reshape(2, 2).tolist(), "warnings": [str(w.message) for w in caught]}
    alone = jax.jit(forward)
    found["jit"] = [np.asarray(alone(params, windows[i : i + 1]))[0].tolist() for i in range(2)]
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def found() -> dict:
    """What scorers on the first 1, 2, 4 and 8 of eight devices did."""
    # Unoptimised code: half the time to compile, and nothing here is of speed.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
    # What JAX finds in its own cache is not kept in ours.
    environment |= {"JAX_COMPILATION_CACHE_DIR": ""}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def furthest(left: list, right: list) -> float:
    assert len(left) == len(right)
    return max(abs(a - b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_scores_do_not_depend_on_the_number_of_devices(found: dict, devices: int) -> None:
    """In float64, where a device's share of 8, 4, 2 or 1 clips changes only the order of sums."""
    alone, together = found["float64 1"], found[f"float64 {devices}"]
    assert together["dtype"] == "float64"
    assert len(together["logits"]) == 11
    assert furthest(together["logits"], alone["logits"]) < LOGITS["float64"]


def test_float32_scores_are_those_of_one_device(found: dict) -> None:
    """With one clip a device, where each runs what a single device runs, near ties are ranked alike too."""
    assert found["float32 8"]["dtype"] == "float32"
    assert furthest(found["float32 8"]["logits"], found["float32 1"]["logits"]) < 1e-6


def test_what_was_compiled_before_runs_on_the_same_devices_only(found: dict) -> None:
    assert found["float32 8 kept"]["logits"] == found["float32 8"]["logits"]
    assert (found["float32 8"]["compiles"], found["float32 8 kept"]["compiles"]) == (1, 0)
    assert found["keys"] == [True, False]


@pytest.mark.parametrize("what", ["float64 1", "float64 2", "float64 4", "float64 8", "float32 8", "float32 8 kept"])
def test_each_device_scores_its_share_alone(found: dict, what: str) -> None:
    run, devices = found[what], int(what.split()[1])
    exchanges = (
        "all-reduce",
        "all-gather",
        "all-to-all",
        "collective-permute",
        "reduce-scatter",
        "collective-broadcast",
    )
    assert "fusion" in run["program"], "no compiled module to look into"
    assert [name for name in exchanges if name in run["program"]] == []
    assert run["weights on"] == [devices]
    assert run["weights whole"]
    assert run["clips on"] == [8 // devices] * devices


def test_one_compile_serves_every_number_of_clips(found: dict) -> None:
    for devices in (1, 2, 4, 8):
        run = found[f"float64 {devices}"]
        assert run["compiles at load"] == run["compiles"], "scoring compiled something"
    # What loading compiles beside the network (conversions of weights) was compiled once, for the first of them.
    assert found["float64 8"]["compiles"] == 1


def test_the_batch_is_rounded_up_to_the_devices(found: dict) -> None:
    run = found["rounded up"]
    assert run["batch_size"] == 2
    assert run["weights on"] == [2]
    assert furthest(run["logits"], found["float32 1"]["logits"]) < 1e-6


def test_the_pure_function_runs_under_pmap(found: dict) -> None:
    assert furthest(found["pmap"]["logits"], found["jit"]) < 1e-6
    # JAX keeps pmap for old programs, and may say so; it says nothing else.
    assert [said for said in found["pmap"]["warnings"] if "pmap" not in said] == []
