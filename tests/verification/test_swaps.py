"""Swapping tied nodes gives the scores to which the PyTorch reference jumped between float64 and float32."""

from __future__ import annotations

import numpy as np
import pytest

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import load_model
from spectra_jax.data.score_files import Scores
from spectra_jax.evaluation.compare import compare
from spectra_jax.model.rank_gap import GAP_BOUND
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.verification.swaps import swapped_scores
from tests.conftest import golden_windows
from tests.golden.checks import NEAR_TIES
from tests.tolerances import LOGITS

pytestmark = pytest.mark.slow

# The seeds of the clips at which the reference's own float32 score jumped, by 0.02 and 0.002.
JUMPED = (125, 9)


@pytest.fixture(scope="module")
def tiny_model(tiny_checkpoint: Checkpoint) -> SpectraAASIST3:
    return load_model(tiny_checkpoint, "float32")


@pytest.fixture(scope="module")
def swapped(tiny_model: SpectraAASIST3) -> dict[str, list[float]]:
    scores = swapped_scores(tiny_model, golden_windows(NEAR_TIES), GAP_BOUND)
    return {f"seed_{row['seed']}": found for row, found in zip(NEAR_TIES, scores, strict=True)}


def test_swapped_nodes_give_the_score_after_a_jump(swapped: dict[str, list[float]]) -> None:
    for row in NEAR_TIES:
        scores = np.array(swapped[f"seed_{row['seed']}"])
        float64, float32 = row["logits_float64"][1], row["logits_float32"][1]
        assert np.abs(scores - float64).min() < LOGITS["float32"]
        assert np.abs(scores - float32).min() < LOGITS["float32"], row["seed"]
        assert (abs(float64 - float32) > 1e-3) == (row["seed"] in JUMPED)
        assert 2 <= len(scores) <= 16 and np.ptp(scores) > 1e-3


def test_a_jump_is_explained_and_a_wrong_score_at_a_near_tie_is_not(swapped: dict[str, list[float]]) -> None:
    # Two jumps of five trials are too many.
    rows = [row for row in NEAR_TIES if row["seed"] != JUMPED[1]]
    ids = np.array([f"seed_{row['seed']}" for row in rows], object)
    gaps = {"smallest_rank_gap": np.array([row["smallest_pool_rank_gap"] for row in rows])}
    ours = Scores("ours", ids, np.array([row["logits_float64"][1] for row in rows]), gaps)
    theirs = np.array([row["logits_float32"][1] for row in rows])
    found = compare(ours, Scores("theirs", ids, theirs), swapped_scores=swapped)
    assert found.agrees and list(ids[found.explained]) == ["seed_125"]
    wrong = compare(ours, Scores("theirs", ids, theirs - 0.001 * (ids == "seed_125")), swapped_scores=swapped)
    assert not wrong.agrees and list(ids[wrong.unexplained]) == ["seed_125"]
