"""Calibrating a score file: the fit is that of its labelled trials, unrounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.calibrate import calibrate
from spectra_jax.evaluation.metrics.calibration import Calibration, Kind

N = 200
IDS = np.array([f"t{index}" for index in range(N)], object)
BONAFIDE = np.arange(N) % 4 == 0
SCORES = Scores("dev", IDS, np.random.default_rng(0).normal(size=N) + 2 * BONAFIDE)
LABELS = Labels("key", IDS[::-1], BONAFIDE[::-1], {"subset": np.array(["dev"] * N, object)})


@pytest.mark.parametrize(
    ("method", "fit"),
    [("logistic", metrics.fit_logistic), ("isotonic", metrics.fit_isotonic)],
    ids=["logistic", "isotonic"],
)
def test_is_the_fit_to_the_labelled_trials(method: Kind, fit: Callable[[ArrayLike, ArrayLike], Calibration]) -> None:
    found = calibrate(SCORES, LABELS, method=method)
    classes = SCORES.scores[BONAFIDE], SCORES.scores[~BONAFIDE]
    assert found.calibration == fit(*classes)
    assert found.cllr_before == metrics.cllr(*classes) and found.min_cllr == metrics.min_cllr(*classes)
    assert found.cllr_after == metrics.cllr(*map(found.calibration.log_likelihood_ratio, classes))
    assert found.min_cllr <= found.cllr_after + 0.05 and found.cllr_after < found.cllr_before
    assert (found.labels_name, found.subsets) == ("key", {"dev": N})


def test_ids_must_match_unless_only_the_common_ones_are_asked_for() -> None:
    fewer = Labels("fewer", LABELS.utterance_ids[:-4], LABELS.bonafide[:-4])
    with pytest.raises(InputError, match="4 trials of dev without a label in fewer"):
        calibrate(SCORES, fewer)
    calibration = calibrate(SCORES, fewer, common=True).calibration
    assert calibration.n_bonafide + calibration.n_spoof == N - 4
