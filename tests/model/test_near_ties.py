"""Near ties: the rank gap separates them from bugs, and certified scores do not depend on batches and devices.

`tests/programs/near_ties.py` scores 80 trials with the tiny network on four devices, five of them near ties: in
float64, in float32, and certified.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.evaluation.compare import compare
from spectra_jax.model.rank_gap import GAP_BOUND
from tests.golden.checks import as_scores
from tests.programs.near_ties import NEAR_TIES, SAMPLES, SEEDS
from tests.tolerances import LOGITS

pytestmark = [pytest.mark.slow, pytest.mark.long]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, np.ndarray]:
    """Logits and rank gaps (80, 2 + 10) for each precision, batch size and number of devices."""
    path = tmp_path_factory.mktemp("near-ties") / "outputs.npz"
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    }
    subprocess.run([sys.executable, "-m", "tests.programs.near_ties", str(path)], env=environment, cwd=ROOT, check=True)
    with np.load(path) as arrays:
        return dict(arrays)


IDS = [f"seed_{seed}" for seed in SEEDS]


def scores_of(found: Mapping[str, np.ndarray], kind: str) -> list[np.ndarray]:
    scores = [outputs[:, 1] for name, outputs in found.items() if name.startswith(kind)]
    assert len(scores) == 4
    return scores


def test_rank_gaps_are_those_of_the_reference(found: Mapping[str, np.ndarray]) -> None:
    for trial in NEAR_TIES:
        assert trial["samples"] == SAMPLES
        gaps = found["float64"][SEEDS.index(trial["seed"]), 2:]
        # The difference of two scores near one, each of them rounded.
        assert gaps.min() == pytest.approx(trial["smallest_pool_rank_gap"], abs=1e-13)


def test_float32_scores_jump_at_near_ties_only(found: Mapping[str, np.ndarray]) -> None:
    true = as_scores("float64", IDS, found["float64"])
    jumped = 0
    for name in (name for name in found if name.startswith("float32")):
        comparison = compare(as_scores(name, IDS, found[name]), true, resamples=0)
        assert comparison.agrees, comparison.verdict
        jumped += comparison.n_explained
    assert jumped > 0, "or nothing here says that near ties matter"


def test_certified_scores_do_not_depend_on_batches_and_devices(found: Mapping[str, np.ndarray]) -> None:
    true = found["float64"][:, 1]
    spread = np.ptp([true, *scores_of(found, "certified")], axis=0)
    assert spread.max() < LOGITS["float32"]
    # The scores with the same batches and devices without certification.
    assert np.ptp([true, *scores_of(found, "float32")], axis=0).max() > 1e-3


def test_a_difference_without_a_near_tie_is_unexplained(found: Mapping[str, np.ndarray]) -> None:
    true = as_scores("float64", IDS, found["float64"])
    outputs = found["float32 1 1"]
    differences = outputs[:, 1] - found["float64"][:, 1]
    jumps = differences[np.abs(differences) > LOGITS["float32"]]
    assert len(jumps), "no score jumped, so that no difference was tested"
    comparison = compare(as_scores("float32", IDS, outputs), true, resamples=0)
    without_near_tie = np.flatnonzero(comparison.rank_gaps >= comparison.gap_bound)
    random = np.random.default_rng(0)
    for jump in jumps:
        # A difference as large as that of a near tie, at a trial without one.
        wrong = outputs.copy()
        index = random.choice(without_near_tie)
        wrong[index, 1] += jump
        comparison = compare(as_scores("wrong", IDS, wrong), true, resamples=0)
        assert not comparison.agrees
        assert np.flatnonzero(comparison.unexplained).tolist() == [index]


def test_rounding_changes_gaps_by_less_than_the_bound(found: Mapping[str, np.ndarray]) -> None:
    true = found["float64"][:, 2:]
    for name in (name for name in found if name.startswith("float32")):
        change = np.abs(found[name][:, 2:] - true).max()
        # A larger gap cannot close.
        assert change < GAP_BOUND, f"{name}: gaps change by {change:.2g} under rounding"
