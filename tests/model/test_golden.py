"""The network against the stages and logits of the reference."""

from __future__ import annotations

import numpy as np
import pytest

from spectra_jax.checkpoints.checkpoint import Checkpoint
from tests.conftest import expected
from tests.golden.checks import (
    NEAR_TIES,
    check_golden_rank_gaps,
    check_logits,
    check_near_ties,
    check_network,
    check_sums,
    run_stages,
    score_clips,
)

PRECISIONS = ["float64", "float32"]


@pytest.fixture(scope="module", params=PRECISIONS)
def tiny_stages(request: pytest.FixtureRequest, tiny_checkpoint: Checkpoint) -> tuple[str, dict[str, np.ndarray]]:
    """The precision, and all stages of the tiny network on its golden waveforms followed by the near ties."""
    rows = expected("tiny")["waveforms"] + NEAR_TIES
    return request.param, run_stages(tiny_checkpoint, rows, request.param)


def test_every_stage_of_the_tiny_network(tiny_stages: tuple[str, dict[str, np.ndarray]]) -> None:
    precision, recorded = tiny_stages
    check_network(recorded, "tiny", precision)
    if precision == "float64":
        check_golden_rank_gaps(recorded)


def test_near_ties_agree_in_float64(tiny_stages: tuple[str, dict[str, np.ndarray]]) -> None:
    """At near ties, float32 scores jump, also those of the reference; float64 scores do not."""
    precision, recorded = tiny_stages
    if precision == "float32":
        return
    check_near_ties(recorded)


@pytest.mark.full
@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.long)])
def test_every_stage_of_the_full_network(full_checkpoint: Checkpoint, precision: str) -> None:
    recorded = run_stages(full_checkpoint, expected("full")["waveforms"], precision)
    check_network(recorded, "full", precision)
    if precision == "float64":
        check_sums(recorded)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_real_clips_through_the_tiny_network(tiny_checkpoint: Checkpoint, precision: str) -> None:
    check_logits(*score_clips(tiny_checkpoint, "tiny", precision), precision)


@pytest.mark.full
@pytest.mark.parametrize("precision", PRECISIONS)
def test_real_clips_through_the_full_network(full_checkpoint: Checkpoint, precision: str) -> None:
    check_logits(*score_clips(full_checkpoint, "full", precision), precision)
