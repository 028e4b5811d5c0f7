"""The network against the stages and logits of the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import load_model
from spectra_jax.data.trial import Trial
from spectra_jax.inference.scorer import Scorer
from spectra_jax.model.graph import smallest_rank_gap
from spectra_jax.model.spectra import stages
from tests.conftest import GOLDEN, expected, golden_windows
from tests.tolerances import LOGITS, RANK_GAP, STAGE_MAX, STAGE_RMS

CLIPS = Path(__file__).parents[2] / "examples" / "corpus" / "eval"
PRECISIONS = ["float64", "float32"]


NEAR_TIES = json.loads((GOLDEN / "near_ties.json").read_text())["trials"]


def run_stages(checkpoint: Checkpoint, waveforms: list[dict[str, Any]], precision: str) -> dict[str, np.ndarray]:
    """All stages of a network on golden waveforms."""
    with jax.enable_x64(precision == "float64"):
        recorded = stages(load_model(checkpoint, precision), golden_windows(waveforms))
        return {name: np.asarray(value, np.float64) for name, value in recorded.items()}


@pytest.fixture(scope="module", params=PRECISIONS)
def tiny_stages(request: pytest.FixtureRequest, tiny_checkpoint: Checkpoint) -> tuple[str, dict[str, np.ndarray]]:
    """The precision, and all stages of the tiny network on its golden waveforms followed by the near ties."""
    rows = expected("tiny")["waveforms"] + NEAR_TIES
    return request.param, run_stages(tiny_checkpoint, rows, request.param)


def check_stage(name: str, found: np.ndarray, reference: np.ndarray, rms: float, precision: str) -> None:
    error = found - reference
    assert np.sqrt(np.mean(error**2)) <= STAGE_RMS[precision] * rms, name
    assert np.max(np.abs(error)) <= STAGE_MAX[precision] * rms, name


def check_logits(found: np.ndarray, rows: list[dict[str, Any]], precision: str) -> None:
    comparable = 0
    for logits, row in zip(found, rows, strict=True):
        if precision == "float64" or row["smallest_pool_rank_gap"] > RANK_GAP:
            np.testing.assert_allclose(logits, row["logits_float64"], rtol=0, atol=LOGITS[precision])
            comparable += 1
    assert comparable, "no trial could be compared"


def rank_gap(scores: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(smallest_rank_gap(scores, 0.5))


def check_rank_gaps(recorded: Mapping[str, np.ndarray], rows: list[dict[str, Any]]) -> None:
    """The smallest rank gap is the one of the reference."""
    gaps = [rank_gap(scores) for name, scores in recorded.items() if name.endswith(".scores")]
    assert len(gaps) == 10, "two pools before the branches, two in each of four"
    np.testing.assert_allclose(
        np.min(gaps, axis=0), [row["smallest_pool_rank_gap"] for row in rows], rtol=0, atol=1e-12
    )


def test_every_stage_of_the_tiny_network(tiny_stages: tuple[str, dict[str, np.ndarray]]) -> None:
    precision, recorded = tiny_stages
    golden = expected("tiny")
    recorded = {name: value[: len(golden["waveforms"])] for name, value in recorded.items()}
    reference = load_file(GOLDEN / "tiny" / "stages.safetensors")
    for name, stage in golden["stages"].items():
        assert list(recorded[name].shape) == stage["shape"], name
        check_stage(name, recorded[name], reference[name], stage["rms"], precision)
    check_logits(recorded["logits"], golden["waveforms"], precision)
    if precision == "float64":
        check_rank_gaps(recorded, golden["waveforms"])


def test_near_ties_agree_in_float64(tiny_stages: tuple[str, dict[str, np.ndarray]]) -> None:
    """At near ties, float32 scores jump, also those of the reference; float64 scores do not."""
    precision, recorded = tiny_stages
    if precision == "float32":
        return
    recorded = {name: value[-len(NEAR_TIES) :] for name, value in recorded.items()}
    check_logits(recorded["logits"], NEAR_TIES, "float64")
    check_rank_gaps(recorded, NEAR_TIES)
    for index, row in enumerate(NEAR_TIES):
        pool = row["pool"].replace("pool_hT", "pool_t").replace("pool_hS", "pool_s")
        gap = rank_gap(recorded[f"{pool}.scores"])[index]
        assert gap == pytest.approx(row["smallest_pool_rank_gap"], rel=0, abs=1e-12)


@pytest.mark.full
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_stage_of_the_full_network(full_checkpoint: Checkpoint, precision: str) -> None:
    golden = expected("full")
    reference = load_file(GOLDEN / "full" / "stages.safetensors")
    recorded = run_stages(full_checkpoint, golden["waveforms"], precision)
    for name, stage in golden["stages"].items():
        assert list(recorded[name].shape) == stage["shape"], name
        flat = recorded[name].reshape(len(recorded[name]), -1)
        sampled = flat[:, :: stage["flat_stride"]][:, : reference[name].shape[1]]
        check_stage(name, sampled, reference[name], stage["rms"], precision)
        if precision == "float64":
            # The golden stages have one of some hundred values; the sums cover all of them.
            scale = np.array(stage["per_trial_abs_sum"])
            np.testing.assert_allclose(
                flat.sum(1) / scale, np.array(stage["per_trial_sum"]) / scale, rtol=0, atol=1e-12
            )
            np.testing.assert_allclose(np.abs(flat).sum(1), scale, rtol=1e-12)
    check_logits(recorded["logits"], golden["waveforms"], precision)


def score_clips(checkpoint: Checkpoint, network: str, precision: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Logits (12, 2) of the example clips from a scorer, and the rows of the reference."""
    rows = json.loads((GOLDEN / "trials" / "expected.json").read_text())["networks"][network]
    with jax.enable_x64(precision == "float64"):
        model = load_model(checkpoint, precision)
    trials = [Trial(row["utterance_id"], CLIPS / Path(row["path"]).name) for row in rows]
    results = list(Scorer(model, batch_size=4).score_trials(trials))
    return np.array([result.logits for result in results]), rows


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_real_clips_through_the_tiny_network(tiny_checkpoint: Checkpoint, precision: str) -> None:
    check_logits(*score_clips(tiny_checkpoint, "tiny", precision), precision)


@pytest.mark.full
@pytest.mark.parametrize("precision", PRECISIONS)
def test_real_clips_through_the_full_network(full_checkpoint: Checkpoint, precision: str) -> None:
    check_logits(*score_clips(full_checkpoint, "full", precision), precision)
