"""The figures of a run's folder: of which trials, of which network, and what is noted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.arena.reported import REPORTED
from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.identity import RUN
from spectra_jax.inference.results import Result
from spectra_jax.jobs import parts
from spectra_jax.jobs.scorer_options import ScorerOptions
from spectra_jax.jobs.store import Store
from spectra_jax.reproduction import Settings, reproduce
from spectra_jax.reproduction.prepare import Prepared
from spectra_jax.reproduction.record import DatasetRecord, Sample, Shard
from spectra_jax.reproduction.results import evaluate_dataset

COMMIT, OTHER = "4" * 40, "5" * 40
IDS = [f"SONAR_{index}" for index in range(8)]
VALUES = [3.0, 2.0, 1.0, -1.0, 0.5, -2.0, -3.0, -4.0]
LABELS = Labels("labels.parquet", np.array(IDS, object), np.arange(8) < 4)


def scores(ids: Sequence[str] = IDS) -> Scores:
    return Scores("published", np.array(ids, object), np.array([VALUES[IDS.index(name)] for name in ids]))


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """A dataset whose run is complete, by the demo network in bfloat16, and has the published scores."""
    monkeypatch.setitem(REPORTED, "SONAR", ("25.00", len(IDS)))
    record = DatasetRecord(tmp_path / "SONAR.json", "org/SONAR", "main", COMMIT, (Shard("data/test-0.parquet", 1),))
    prepared = Prepared("SONAR", record, LABELS, scores())
    store = Store(prepared.run_folder)
    identity = {"part_size": 8, "weights_sha256": "0" * 64, "precision": "bfloat16", "batch_size": 4, "certify": False}
    store.write(RUN, json.dumps({"run": identity, "model": "demo"}).encode())
    trials = [Trial(name, Path("labels.parquet"), stamp=COMMIT) for name in IDS]
    rows = [
        parts.row(index, Result(trial, (-value / 2, value / 2), 1.0, rank_gap=1.0))
        for index, (trial, value) in enumerate(zip(trials, VALUES, strict=True))
    ]
    parts.write_part(store, 0, "digest", rows)
    return prepared


def settings(folder: Path, mine: Path | None = None) -> Settings:
    return Settings(folder, ScorerOptions("org/model", diagnostics=True), resamples=50, mine=mine, score=False)


def test_a_run_states_what_scored_it_whatever_the_command_names(prepared: Prepared, tmp_path: Path) -> None:
    found = evaluate_dataset(prepared, settings(tmp_path))
    assert found.scored_with == {"model": "demo", "precision": "bfloat16", "batch_size": 4, "certify": False}
    assert found.reproduced and found.ours is not None and found.ours.eer_percent == 25 and not found.notes
    # The command could not resume it, for instance since it names another network.
    refused = evaluate_dataset(prepared, settings(tmp_path), "holds another run")
    assert refused.ours == found.ours and not refused.reproduced


def test_an_equal_eer_of_the_trials_that_are_left_is_no_reproduction(prepared: Prepared, tmp_path: Path) -> None:
    trials = [Trial(name, Path("labels.parquet"), stamp=COMMIT) for name in IDS]
    rows = [
        parts.row(index, Result(trial, (-value / 2, value / 2), 1.0, rank_gap=1.0))
        for index, (trial, value) in enumerate(zip(trials, VALUES, strict=True))
    ]
    rows[0] = parts.row(0, Result(trials[0], None, error="no audio"))
    parts.write_part(Store(prepared.run_folder), 0, "digest", rows)
    found = evaluate_dataset(prepared, settings(tmp_path))
    assert found.ours is not None and found.expected is not None
    assert found.ours.interval.low <= found.expected <= found.ours.interval.high
    assert found.problem == "1 trial of 8 could not be scored; the Arena's tool ends a run with more than 5 %"
    assert not found.reproduced


def test_scores_of_other_trials_than_those_of_the_labels_are_an_error(prepared: Prepared, tmp_path: Path) -> None:
    # As after the record was removed, and `main` had moved or another sample was drawn.
    moved = replace(prepared, record=replace(prepared.record, commit=OTHER))
    with pytest.raises(InputError, match=f"scores of commit {COMMIT}, and the labels are of {OTHER}. Give SONAR@444"):
        evaluate_dataset(moved, settings(tmp_path))
    sample = replace(prepared, record=replace(prepared.record, sample=Sample(6, 1, {"data/test-0.parquet": IDS[1:7]})))
    with pytest.raises(InputError, match="has scores of other trials than those that are asked for, such as SONAR_0"):
        evaluate_dataset(sample, settings(tmp_path))


def test_published_scores_of_other_or_fewer_trials_are_noted(prepared: Prepared, tmp_path: Path) -> None:
    fewer = evaluate_dataset(replace(prepared, published=scores(IDS[1:])), settings(tmp_path))
    assert fewer.notes[0] == "1 trial of 8 without a published score" and fewer.ours is not None
    strange = replace(prepared, published=replace(scores(), utterance_ids=np.array([*"abcdefgh"], object)))
    found = evaluate_dataset(strange, settings(tmp_path))
    assert found.recomputed is None and found.reproduced
    assert "the published scores give no EER: published and labels.parquet have no trial in common" in found.notes[0]


def test_scores_of_another_system_that_have_one_class_are_noted(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "SONAR.txt").write_text("SONAR_0 1.0\nSONAR_1 2.0\n")
    found = evaluate_dataset(prepared, settings(tmp_path, tmp_path / "mine"))
    assert found.mine is None and found.reproduced and "all bona fide" in found.notes[0]


def test_a_dataset_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SONAR SONAR@main: give each dataset once"):
        reproduce(settings(tmp_path), ["SONAR", "SONAR@main"])
