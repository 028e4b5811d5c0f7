"""The numbers of charts: bands are the bootstrap's, thinning keeps the shape, shares and bins count every trial."""

from __future__ import annotations

import numpy as np
import pytest

from spectra_jax.evaluation import metrics
from spectra_jax.reporting import curves


def test_bands_are_the_bootstraps() -> None:
    """A band drawn from multinomial counts against resampling every trial."""
    random = np.random.default_rng(1)
    bonafide, spoof = random.normal(1, 1, 300), random.normal(-1, 1, 500)
    found = curves.curve(bonafide, spoof, resamples=2000)
    middle, low, high = curves.at_false_acceptance(found, [0.05, 0.2])
    resampled = []
    for _ in range(500):
        classes = [random.choice(scores, len(scores)) for scores in (bonafide, spoof)]
        rates = metrics.roc(*classes)
        resampled.append(np.interp([0.05, 0.2], rates.false_acceptance[::-1], rates.false_rejection[::-1]))
    expected = np.quantile(resampled, [0.025, 0.975], axis=0)
    # The ends of an interval of width ~0.1 from 500 resamples have a standard error of some 0.006.
    np.testing.assert_allclose([low, high], expected, atol=0.02)
    assert (low < middle).all() and (middle < high).all()


def test_thinned_curves_keep_the_shape() -> None:
    random = np.random.default_rng(2)
    bonafide, spoof = random.normal(1, 1, 20_000), random.normal(-1, 1, 60_000)
    found = curves.curve(bonafide, spoof, resamples=10)
    assert len(found.false_acceptance) <= curves.POINTS + 1
    rates = metrics.error_rates(bonafide, spoof, [-0.5, 0, 0.7])
    middle, _, _ = curves.at_false_acceptance(found, rates.false_acceptance)
    # 300 points over a curve from 0 to 1 on each axis.
    np.testing.assert_allclose(middle, rates.false_rejection, atol=0.005)


def test_without_resamples_there_is_no_band() -> None:
    found = curves.curve([1.0, 2.0, 3.0], [0.0, 1.5], resamples=0)
    assert len(found.grid) == len(found.low) == len(found.high) == 0
    _, low, high = curves.at_false_acceptance(found, [0.1])
    assert np.isnan([low, high]).all()


def test_deviates_of_zero_and_one_are_finite_and_symmetric() -> None:
    low, middle, high = curves.probit([0, 0.5, 1])
    assert low == pytest.approx(-high) and np.isfinite([low, high]).all() and middle == 0


@pytest.mark.parametrize("scores", [np.zeros(5), np.arange(10.0), np.random.default_rng(0).standard_cauchy(5000)])
def test_every_score_is_in_a_bin(scores: np.ndarray) -> None:
    edges = curves.bin_edges(scores)
    assert (np.diff(edges) > 0).all() and curves.shares(scores, edges).sum() == pytest.approx(1)
    # A few extreme scores do not determine the bins.
    assert len(scores) < 2000 or np.ptp(edges) < np.ptp(scores) / 2


def test_reliability_of_true_ratios_is_on_the_diagonal() -> None:
    """Normal classes of unit variance at 1 and -1: the log-likelihood ratio of a score is twice the score."""
    random = np.random.default_rng(3)
    bonafide = np.arange(20_000) < 5_000
    scores = random.normal(np.where(bonafide, 1, -1))
    found = curves.reliability(2 * scores, bonafide)
    np.testing.assert_allclose(found.observed, found.stated, atol=0.03)
    assert found.n.sum() == len(scores) and (np.diff(found.stated) > 0).all()
    overconfident = curves.reliability(6 * scores, bonafide)
    assert np.abs(overconfident.observed - overconfident.stated).max() > 0.1
