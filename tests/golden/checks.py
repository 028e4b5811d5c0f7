"""The golden data against what a network computes, for tests of the network on each kind of device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import load_model
from spectra_jax.data.score_files import Scores
from spectra_jax.data.trial import Trial
from spectra_jax.inference.scorer import Scorer
from spectra_jax.model.graph import smallest_rank_gap
from spectra_jax.model.spectra import stages
from tests.conftest import GOLDEN, expected, golden_windows
from tests.tolerances import LOGITS, RANK_GAP, STAGE_MAX, STAGE_RMS

CLIPS = Path(__file__).parents[2] / "examples" / "corpus" / "eval"
NEAR_TIES = json.loads((GOLDEN / "near_ties.json").read_text())["trials"]


def run_stages(checkpoint: Checkpoint, waveforms: list[dict[str, Any]], precision: str) -> dict[str, np.ndarray]:
    """All stages of a network on golden waveforms."""
    with jax.enable_x64(precision == "float64"):
        recorded = stages(load_model(checkpoint, precision), golden_windows(waveforms))
        return {name: np.asarray(value, np.float64) for name, value in recorded.items()}


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


def compared_stages(recorded: Mapping[str, np.ndarray], network: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each stage's name, its values that the golden folder of a network has, and those of the reference."""
    golden = expected(network)
    reference = load_file(GOLDEN / network / "stages.safetensors")
    for name, stage in golden["stages"].items():
        found = recorded[name][: len(golden["waveforms"])]
        assert list(found.shape) == stage["shape"], name
        if "flat_stride" in stage:
            flat = found.reshape(len(found), -1)
            found = flat[:, :: stage["flat_stride"]][:, : reference[name].shape[1]]
        yield name, found, reference[name]


def relative_errors(recorded: Mapping[str, np.ndarray], network: str) -> dict[str, float]:
    """Each stage's root mean square error as a share of its own root mean square."""
    rms = {name: stage["rms"] for name, stage in expected(network)["stages"].items()}
    return {
        name: float(np.sqrt(np.mean((found - reference) ** 2)) / rms[name])
        for name, found, reference in compared_stages(recorded, network)
    }


def check_network(recorded: Mapping[str, np.ndarray], network: str, precision: str) -> None:
    """Check the stages of a golden network on its waveforms, which are the first rows, in float32 or float64."""
    golden = expected(network)
    rows = golden["waveforms"]
    for name, found, reference in compared_stages(recorded, network):
        check_stage(name, found, reference, golden["stages"][name]["rms"], precision)
    check_logits(recorded["logits"][: len(rows)], rows, precision)


def check_golden_rank_gaps(recorded: Mapping[str, np.ndarray]) -> None:
    """Check the float64 rank gaps of the tiny network on its golden waveforms, which are the first rows."""
    rows = expected("tiny")["waveforms"]
    check_rank_gaps({name: value[: len(rows)] for name, value in recorded.items()}, rows)


def check_near_ties(recorded: Mapping[str, np.ndarray]) -> None:
    """Check the float64 stages of the tiny network on the near ties, which are the last rows."""
    recorded = {name: value[-len(NEAR_TIES) :] for name, value in recorded.items()}
    check_logits(recorded["logits"], NEAR_TIES, "float64")
    check_rank_gaps(recorded, NEAR_TIES)
    for index, row in enumerate(NEAR_TIES):
        pool = row["pool"].replace("pool_hT", "pool_t").replace("pool_hS", "pool_s")
        gap = rank_gap(recorded[f"{pool}.scores"])[index]
        assert gap == pytest.approx(row["smallest_pool_rank_gap"], rel=0, abs=1e-12)


def check_sums(recorded: Mapping[str, np.ndarray]) -> None:
    """Check the sums of the full network's float64 stages: the golden stages have one of some hundred values."""
    for name, stage in expected("full")["stages"].items():
        flat = recorded[name].reshape(len(recorded[name]), -1)
        scale = np.array(stage["per_trial_abs_sum"])
        np.testing.assert_allclose(flat.sum(1) / scale, np.array(stage["per_trial_sum"]) / scale, rtol=0, atol=1e-12)
        np.testing.assert_allclose(np.abs(flat).sum(1), scale, rtol=1e-12)


def score_clips(checkpoint: Checkpoint, network: str, precision: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Logits (12, 2) of the example clips from a scorer, and the rows of the reference."""
    rows = json.loads((GOLDEN / "trials" / "expected.json").read_text())["networks"][network]
    with jax.enable_x64(precision == "float64"):
        model = load_model(checkpoint, precision)
    trials = [Trial(row["utterance_id"], CLIPS / Path(row["path"]).name) for row in rows]
    results = list(Scorer(model, batch_size=4).score_trials(trials))
    return np.array([result.logits for result in results]), rows


def as_scores(name: str, ids: Sequence[str], outputs: np.ndarray) -> Scores:
    """Scores and smallest rank gaps of the outputs (n, 2 + 10) of a scorer with diagnostics."""
    gaps = {"smallest_rank_gap": outputs[:, 2:].min(axis=1)}
    return Scores(name, np.array(ids, object), outputs[:, 1].astype(np.float64), gaps)
