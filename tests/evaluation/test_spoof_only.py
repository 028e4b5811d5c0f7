"""Datasets without bona fide trials."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation.spoof_only import evaluate_spoof_only

IDS = np.array([f"t{index}" for index in range(100)], object)
SCORES = Scores("s", IDS, np.arange(100) / 10)
LABELS = Labels("l", IDS, np.zeros(100, bool), {"language": np.array(["a", "b"] * 50, object)})


def test_the_share_of_accepted_spoofs() -> None:
    found = evaluate_spoof_only(SCORES, LABELS, 8.0, by=["language"], resamples=500)
    assert (found.srr_complement, found.n_spoof, found.threshold) == (20.0, 100, 8.0)
    assert found.interval is not None and 5 < found.interval.low < 20 < found.interval.high < 35
    assert {name: group.srr_complement for name, group in found.groups["language"].items()} == {"a": 20.0, "b": 20.0}
    assert found.to_dict() == evaluate_spoof_only(SCORES, LABELS, 8.0, by=["language"], resamples=500).to_dict()
    values = json.loads(json.dumps(found.to_dict()))
    assert values["srr_complement"] == 20.0 and values["groups"]["language"]["a"]["n_spoof"] == 50


def test_scores_are_rounded_as_in_the_arenas_files() -> None:
    one = Scores("s", IDS[:1], np.array([0.4999999]))
    label = Labels("l", IDS[:1], np.zeros(1, bool))
    assert evaluate_spoof_only(one, label, 0.5, resamples=0).srr_complement == 100
    assert evaluate_spoof_only(one, label, 0.5, resamples=0, exact=True).srr_complement == 0


def test_refuses() -> None:
    mixed = Labels("mixed", IDS, np.arange(100) < 3)
    with pytest.raises(InputError, match="mixed: 3 bona fide trials, with which there is an EER"):
        evaluate_spoof_only(SCORES, mixed, 0.0)
    with pytest.raises(InputError, match="no column 'sex'"):
        evaluate_spoof_only(SCORES, LABELS, 0.0, by=["sex"])
