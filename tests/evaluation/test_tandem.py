"""A countermeasure evaluated together with speaker verification."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spectra_jax.data.asv_scores import AsvTrials
from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import MetricError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.evaluation.tandem import evaluate_tandem


def test_figures_are_the_metrics_of_both_systems() -> None:
    random = np.random.default_rng(0)
    keys = np.array(["target", "nontarget", "spoof"] * 20)
    asv = AsvTrials("asv.txt", keys, random.normal(np.where(keys == "target", 3, 0), 1))
    bonafide = np.arange(50) < 20
    ids = np.array([f"t{index}" for index in range(50)], object)
    scores = random.normal(2.0 * bonafide, 1)
    evaluation = evaluate(Scores("s", ids, scores), Labels("l", ids, bonafide), resamples=0, convention="asvspoof")
    found = evaluate_tandem(evaluation, asv)
    classes = metrics.AsvScores(*(asv.scores[keys == key] for key in ("target", "nontarget", "spoof")))
    assert found.asv == classes.rates()
    assert found.min_tdcf_2021 == metrics.min_tdcf(scores[:20], scores[20:], classes.rates())
    assert found.min_tdcf_2019 == metrics.min_tdcf(scores[:20], scores[20:], classes.rates(), normalisation="2019")
    assert found.t_eer_percent == 100 * metrics.t_eer(scores[:20], scores[20:], classes)
    assert (found.a_dcf, found.a_dcf_is_of) == (metrics.a_dcf(classes), "ASV alone")
    both = evaluate_tandem(evaluation, replace(asv, sasv_scores=-asv.scores))
    assert both.a_dcf > found.a_dcf and both.a_dcf_is_of == "sasv-score"
    with pytest.raises(MetricError, match=r"asv.txt: no target trials"):
        evaluate_tandem(evaluation, replace(asv, keys=np.full(60, "spoof")))
