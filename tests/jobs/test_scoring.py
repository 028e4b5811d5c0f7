"""Scoring as results, to a file and into a run, with a summary of each."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from spectra_jax.data.sources import Trials, collect
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError, SkipLimitError
from spectra_jax.evaluation.metrics import Calibration
from spectra_jax.inference.results import CERTIFIED, Result
from spectra_jax.jobs import BulkRun, Part
from spectra_jax.jobs.scoring import (
    Calibrator,
    RunSummary,
    ScoringSummary,
    score_to_file,
    score_to_run,
    score_trials,
)
from tests.programs.runs import FakeScorer, open_run, write_inputs

CALIBRATOR = Calibrator(Calibration("logistic", (0.0, 1.0), (0.0, 2.0), 3, 3), spoof_prior=0.25)


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    """Eight trials, the sixth of which cannot be scored."""
    return collect([write_inputs(tmp_path / "inputs", 8)])


def test_results_are_calibrated_and_skipped_trials_stay_as_they_are(trials: Trials) -> None:
    plain = list(score_trials(trials, FakeScorer()))
    calibrated = list(score_trials(trials, FakeScorer(), calibrator=CALIBRATOR))
    assert plain[0].log_likelihood_ratio is None
    for before, after in zip(plain, calibrated, strict=True):
        assert (after.trial, after.score, after.error) == (before.trial, before.score, before.error)
        if before.score is None:
            assert after == before
        else:
            assert after.log_likelihood_ratio == pytest.approx(2 * before.score)
            assert after.spoof_probability == CALIBRATOR.calibration.spoof_probability([before.score], 0.25)[0]


def test_a_summary_counts_what_passes() -> None:
    trial = Trial("a", Path("a.wav"))
    skipped, silent = Result(trial, None, error="broken"), Result(trial, (0.0, 1.0), flags=("silent", CERTIFIED))
    found = [Result(trial, (0.0, 1.0)), Result(trial, (0.0, 1.0), flags=(CERTIFIED,)), silent, skipped]
    summary = ScoringSummary()
    assert list(summary.count(found)) == found
    assert (summary.trials, summary.scored, summary.skipped, summary.certified) == (4, 3, 1, 2)
    assert summary.notable == [silent, skipped]


def test_a_file_has_a_row_for_each_trial(trials: Trials, tmp_path: Path) -> None:
    summary = score_to_file(trials, FakeScorer(), tmp_path / "s.csv", calibrator=CALIBRATOR)
    assert (summary.scored, summary.skipped) == (7, 1)
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["utterance_id"] for row in rows] == [trial.utterance_id for trial in trials]
    assert [row["utterance_id"] for row in rows if row["error"]] == ["005"]
    assert all(bool(row["log_likelihood_ratio"]) == bool(row["score"]) for row in rows)
    with pytest.raises(InputError, match="not a known format"):
        score_to_file(trials, FakeScorer(), tmp_path / "s.xml")


def test_a_run_is_merged_once_no_part_is_missing(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    parts: list[Part] = []
    first = score_to_run(open_run(tmp_path / "run", inputs, process=(0, 2)), on_part=parts.append)
    assert [part.number for part in parts] == [0, 1]
    assert first == RunSummary(missing=1, scored=11, skipped=1)
    assert not (tmp_path / "run" / "scores.txt").exists()
    assert score_to_run(open_run(tmp_path / "run", inputs)) == RunSummary(missing=0, scored=16, skipped=2)
    assert (tmp_path / "run" / "scores.txt").read_text().count("\n") == 16


class Elsewhere:
    """A cluster that scores the parts of a run in this process, the last one first."""

    def score_parts(self, run: BulkRun) -> Iterator[Part]:
        for part in reversed(run.pending()):
            yield from run.score_parts([part])


def test_parts_that_a_cluster_scores_count_as_well(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    parts: list[Part] = []
    summary = score_to_run(open_run(tmp_path / "run", inputs), Elsewhere(), on_part=parts.append)
    assert [part.number for part in parts] == [2, 1, 0]
    assert summary == RunSummary(missing=0, scored=16, skipped=2)
    with pytest.raises(SkipLimitError, match="1 trial could not be scored"):
        score_to_run(open_run(tmp_path / "limited", inputs, max_errors=0), Elsewhere())
