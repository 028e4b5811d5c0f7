"""Near ties of the real network: gaps that tell them from bugs, and scores that are the same everywhere.

One process on four devices scores 80 trials of the tiny network, five of them near ties, in float32 and float64,
plainly and certified.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest

from spectra_jax.data.score_files import Scores
from spectra_jax.evaluation.compare import compare
from spectra_jax.model.rank_gap import GAP_BOUND
from tests.conftest import GOLDEN
from tests.tolerances import LOGITS

pytestmark = [pytest.mark.slow, pytest.mark.long]

NEAR_TIES = json.loads((GOLDEN / "near_ties.json").read_text())["trials"]
SEEDS = list(dict.fromkeys([*(trial["seed"] for trial in NEAR_TIES), *range(78)]))
SAMPLES = 32300  # as in near_ties.json
PROGRAM = f"""
import sys
import jax, numpy as np
from spectra_jax.inference.scorer import Scorer
from tests.conftest import GOLDEN, golden_windows

windows = golden_windows([{{"seed": seed, "samples": {SAMPLES}}} for seed in {SEEDS}])
devices = jax.devices()

def answers(**how):
    return Scorer(GOLDEN / "tiny", **how)._answer(windows)

# What a certifying scorer's own network said, before near ties were scored again.
plain = []
end = Scorer._end

def seen(self, windows, begun):
    if self._certifier is not None:
        plain.append(np.asarray(begun)[: len(windows)])
    return end(self, windows, begun)

Scorer._end = seen
found = {{"float64": answers(precision="float64", devices=devices[:1], diagnostics=True)}}
for size, count in ((1, 1), (3, 1), (8, 1), (8, 4)):
    plain.clear()
    found[f"certified {{size}} {{count}}"] = answers(certify=True, batch_size=size, devices=devices[:count])
    found[f"float32 {{size}} {{count}}"] = np.concatenate(plain)
np.savez(sys.argv[1], **found)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, np.ndarray]:
    """(80, 2 + 10) logits and rank gaps, by how they were computed."""
    path = tmp_path_factory.mktemp("near-ties") / "answers.npz"
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    }
    subprocess.run([sys.executable, "-c", PROGRAM, str(path)], env=environment, check=True)
    with np.load(path) as arrays:
        return dict(arrays)


def as_scores(name: str, answers: np.ndarray) -> Scores:
    ids = np.array([f"seed_{seed}" for seed in SEEDS], object)
    return Scores(name, ids, answers[:, 1].astype(np.float64), {"smallest_rank_gap": answers[:, 2:].min(axis=1)})


def settings(found: Mapping[str, np.ndarray], kind: str) -> list[np.ndarray]:
    return [answers[:, 1] for name, answers in found.items() if name.startswith(kind)]


def test_the_gaps_are_the_references(found: Mapping[str, np.ndarray]) -> None:
    for trial in NEAR_TIES:
        assert trial["samples"] == SAMPLES
        gaps = found["float64"][SEEDS.index(trial["seed"]), 2:]
        # The difference of two scores near one, each with rounding of its own.
        assert gaps.min() == pytest.approx(trial["smallest_pool_rank_gap"], abs=1e-13)


def test_plain_float32_jumps_at_near_ties_alone(found: Mapping[str, np.ndarray]) -> None:
    true = as_scores("float64", found["float64"])
    jumped = 0
    for name in (name for name in found if name.startswith("float32")):
        comparison = compare(as_scores(name, found[name]), true, resamples=0)
        assert comparison.agrees, comparison.verdict
        jumped += comparison.numbers["n_explained"]
    assert jumped > 0, "or nothing here says that near ties matter"


def test_certified_scores_are_the_same_everywhere(found: Mapping[str, np.ndarray]) -> None:
    true = found["float64"][:, 1]
    spread = np.ptp([true, *settings(found, "certified")], axis=0)
    assert spread.max() < LOGITS["float32"]
    # The same batches and devices, and nothing scored again.
    assert np.ptp([true, *settings(found, "float32")], axis=0).max() > 1e-3


def test_bugs_of_the_same_size_are_told_from_near_ties(found: Mapping[str, np.ndarray]) -> None:
    true = as_scores("float64", found["float64"])
    answers = found["float32 1 1"]
    differences = answers[:, 1] - found["float64"][:, 1]
    jumps = differences[np.abs(differences) > LOGITS["float32"]]
    steady = np.flatnonzero(answers[:, 2:].min(axis=1) >= GAP_BOUND)
    random = np.random.default_rng(0)
    for jump in jumps:
        # The very jumps that near ties cause, at a trial that has none.
        broken = answers.copy()
        place = random.choice(steady)
        broken[place, 1] += jump
        comparison = compare(as_scores("broken", broken), true, resamples=0)
        assert not comparison.agrees
        assert np.flatnonzero(comparison.unexplained).tolist() == [place]


def test_the_gap_bound_holds(found: Mapping[str, np.ndarray]) -> None:
    true = found["float64"][:, 2:]
    for name in (name for name in found if name.startswith("float32")):
        moved = np.abs(found[name][:, 2:] - true).max()
        # A larger gap cannot close.
        assert moved < GAP_BOUND, f"{name}: gaps move by {moved:.2g} under rounding"
