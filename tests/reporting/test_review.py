"""The trials to review: which are listed, in which order, and for which reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.evaluation.compare import compare
from spectra_jax.reporting.review import ERRORS, trials_to_review
from spectra_jax.reporting.systems import System, read_systems
from tests.reporting.conftest import HOSTILE


@pytest.fixture(scope="module")
def systems(folder: Path, labels: Labels) -> list[System]:
    return read_systems([folder / "first.csv", folder / "second.csv"], labels, resamples=0)


def test_the_most_confident_errors_of_both_classes_come_first(systems: list[System]) -> None:
    (system, _), evaluation = systems, systems[0].evaluation
    assert evaluation is not None
    trials = trials_to_review([system], [])
    distances = {
        label: [abs(trial.scores["first"] - evaluation.threshold) for trial in trials if trial.label == label]
        for label in ("bona fide", "spoof")
    }
    wrong = (system.scores.scores >= evaluation.threshold) != system.bonafide
    assert len(trials) == min(wrong.sum(), 2 * ERRORS)
    assert all(own == sorted(own, reverse=True) for own in distances.values())
    assert [trial.label for trial in trials[:4]] == ["bona fide", "spoof"] * 2, "in turn"
    assert (trials[0].utterance_id, trials[0].why) == (HOSTILE, "rejected")
    assert {trial.why for trial in trials} == {"rejected", "accepted"}
    assert all((trial.attack != "") == (trial.label == "spoof") for trial in trials)


def test_reasons_of_several_systems_are_joined(systems: list[System]) -> None:
    comparison = compare(systems[0].scores, systems[1].scores, resamples=0)
    trials = {trial.utterance_id: trial for trial in trials_to_review(systems, [comparison])}
    assert trials[HOSTILE].why.startswith("rejected by first and second")
    assert trials["trial_0005"].why == "unexplained difference" and trials["trial_0005"].rank_gap == pytest.approx(
        1e-3, rel=1e-3
    )
    assert set(trials["trial_0005"].scores) == {"first", "second"}
    assert {trial.utterance_id for trial in comparison.worst} <= set(trials)


def test_a_trial_of_several_comparisons_names_each(systems: list[System]) -> None:
    scores = systems[1].scores
    third = Scores("third", scores.utterance_ids, scores.scores, scores.columns)
    comparisons = [compare(systems[0].scores, other, resamples=0) for other in (scores, third)]
    trials = {trial.utterance_id: trial for trial in trials_to_review(systems, comparisons)}
    assert "unexplained difference from second and from third" in trials["trial_0005"].why


def test_extreme_scores_without_labels(folder: Path) -> None:
    system = read_systems([folder / "first.csv"], resamples=0)[0]
    trials = trials_to_review([system], [])
    order = np.argsort(system.scores.scores)
    reasons = {
        "among the highest": system.scores.utterance_ids[order[-5:]],
        "among the lowest": system.scores.utterance_ids[order[:5]],
    }
    for reason, expected in reasons.items():
        assert {trial.utterance_id for trial in trials if trial.why == reason} == set(expected)
    assert all(trial.label == trial.attack == "" for trial in trials)


@pytest.mark.parametrize("number", [1, 2, 5, 9, 10, 11])
def test_a_short_file_without_labels_is_listed_completely(number: int, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("".join(f"t{index} {index}.0\n" for index in range(number)))
    listed = [trial.utterance_id for trial in trials_to_review([read_systems([tmp_path / "s.txt"])[0]], [])]
    assert len(listed) == len(set(listed)) == min(number, 10)
