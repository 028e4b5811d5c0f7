"""Metrics against independent ones: scikit-learn, brute force over hypothesis' cases, and cases worked by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from spectra_jax.errors import MetricError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.metrics import Costs

# A grid, so that scores tie, within a class and across them.
SCORES = st.lists(st.integers(-4, 4).map(lambda value: value / 2), min_size=1, max_size=12)
COSTS = Costs(0.3, 2.0, 5.0)
STATISTICS = [
    metrics.eer,
    metrics.asvspoof_eer,
    metrics.rocch_eer,
    metrics.auc,
    metrics.min_dcf,
    metrics.act_dcf,
    metrics.cllr,
    metrics.min_cllr,
]


def arena_eer(bonafide: list[float], spoof: list[float]) -> float:
    """The Arena's convention, word for word, one threshold at a time."""
    thresholds = sorted({*bonafide, *spoof})
    far = [sum(score >= t for score in spoof) / len(spoof) for t in thresholds]
    frr = [sum(score < t for score in bonafide) / len(bonafide) for t in thresholds]
    d = [one - other for one, other in zip(far, frr, strict=True)]
    for i in range(len(d) - 1):
        if np.sign(d[i]) != np.sign(d[i + 1]):
            alpha = d[i] / (d[i] - d[i + 1])
            return (far[i] + alpha * (far[i + 1] - far[i]) + frr[i] + alpha * (frr[i + 1] - frr[i])) / 2
    i = int(np.argmin(np.abs(d)))
    return (far[i] + frr[i]) / 2


def asvspoof_eer(bonafide: list[float], spoof: list[float]) -> tuple[float, float]:
    """The convention of ASVspoof, one rejected trial at a time: the rate and the threshold."""
    trials = sorted([(score, 0) for score in bonafide] + [(score, 1) for score in spoof])
    points = [(0.0, 1.0, trials[0][0] - 0.001)]
    for rejected in range(1, len(trials) + 1):
        spoofs = sum(label for _, label in trials[:rejected])
        frr, far = (rejected - spoofs) / len(bonafide), (len(spoof) - spoofs) / len(spoof)
        points.append((frr, far, trials[rejected - 1][0]))
    frr, far, threshold = min(points, key=lambda point: abs(point[0] - point[1]))
    return (frr + far) / 2, threshold


def operating_points(bonafide: list[float], spoof: list[float]) -> list[tuple[float, float]]:
    thresholds = [*sorted({*bonafide, *spoof}), math.inf]
    return [
        (sum(score >= t for score in spoof) / len(spoof), sum(score < t for score in bonafide) / len(bonafide))
        for t in thresholds
    ]


@settings(deadline=None, max_examples=300)
@given(SCORES, SCORES)
def test_against_brute_force(bonafide: list[float], spoof: list[float]) -> None:
    # Rates are the same sums and quotients; only the order of additions differs.
    assert metrics.eer(bonafide, spoof).rate == pytest.approx(arena_eer(bonafide, spoof), abs=1e-12)
    pairs = [(b > s) + (b == s) / 2 for b, s in itertools.product(bonafide, spoof)]
    assert metrics.auc(bonafide, spoof) == pytest.approx(np.mean(pairs), abs=1e-12)
    points = operating_points(bonafide, spoof)
    cost = [(2.0 * 0.7 * frr + 5.0 * 0.3 * far) / min(2.0 * 0.7, 5.0 * 0.3) for far, frr in points]
    assert metrics.min_dcf(bonafide, spoof, COSTS) == pytest.approx(min(cost), abs=1e-12)
    loss = [np.mean(np.log2(1 + np.exp(-np.array(bonafide)))), np.mean(np.log2(1 + np.exp(np.array(spoof))))]
    assert metrics.cllr(bonafide, spoof) == pytest.approx(np.mean(loss), abs=1e-12)
    # The hull: the lowest diagonal crossing over all segments between operating points.
    crossings = []
    for (far, frr), (far_2, frr_2) in itertools.product(points, points):
        if far >= frr and far_2 <= frr_2:
            gap, gap_2 = far - frr, far_2 - frr_2
            weight = 0.0 if gap == gap_2 else gap / (gap - gap_2)
            crossings.append(frr + weight * (frr_2 - frr))
    assert metrics.rocch_eer(bonafide, spoof).rate == pytest.approx(min(crossings), abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(SCORES, SCORES)
def test_no_rising_map_of_the_scores_beats_min_cllr(bonafide: list[float], spoof: list[float]) -> None:
    best = metrics.min_cllr(bonafide, spoof)
    assert 0 <= best <= 1 + 1e-12
    for slope, offset in itertools.product((0.0, 0.5, 1.0, 4.0), (-1.0, 0.0, 0.5)):
        mapped = [slope * np.array(scores) + offset for scores in (bonafide, spoof)]
        assert best <= metrics.cllr(*mapped) + 1e-12
    # Whatever it does, it depends on the order alone.
    assert metrics.min_cllr(np.exp(bonafide), np.exp(spoof)) == pytest.approx(best, abs=1e-12)


def test_against_scikit_learn() -> None:
    learn = pytest.importorskip("sklearn.metrics", reason="needs the extra `test` (scikit-learn)")
    random = np.random.default_rng(0)
    bonafide, spoof = np.round(random.normal(1, 1, 400), 1), np.round(random.normal(-0.5, 1.5, 700), 1)
    scores, labels = np.concatenate([bonafide, spoof]), np.repeat([1, 0], [400, 700])
    assert metrics.auc(bonafide, spoof) == pytest.approx(learn.roc_auc_score(labels, scores), abs=1e-12)
    far, hit, thresholds = learn.roc_curve(labels, scores, drop_intermediate=False)
    rates = metrics.roc(bonafide, spoof)
    np.testing.assert_allclose(rates.thresholds[::-1], thresholds)
    np.testing.assert_allclose(rates.false_acceptance[::-1], far, atol=1e-12)
    np.testing.assert_allclose(1 - rates.false_rejection[::-1], hit, atol=1e-12)
    posterior = 1 / (1 + np.exp(-scores))
    weights = np.repeat([1 / 800, 1 / 1400], [400, 700])
    loss = learn.log_loss(labels, posterior, sample_weight=weights) / np.log(2)
    assert metrics.cllr(bonafide, spoof) == pytest.approx(loss, abs=1e-12)


def test_worked_by_hand() -> None:
    # 1 of 4 spoofed at or above 0.5, 1 of 4 bona fide below it.
    bonafide, spoof = [0.0, 0.5, 0.7, 0.9], [-1.0, -0.5, 0.2, 0.6]
    # Thresholds .., 0.2: far 0.5, frr 0.25; 0.5: far 0.25, frr 0.25: the sign changes from + to 0 there.
    assert metrics.eer(bonafide, spoof) == metrics.EqualErrorRate(0.25, 0.5)
    rates = metrics.error_rates(bonafide, spoof, [0.5, -9, 9])
    assert rates.false_acceptance.tolist() == [0.25, 1, 0] and rates.false_rejection.tolist() == [0.25, 0, 1]
    # A miss costs 0.95, a false alarm 0.5: at 0.7 no false alarm and half the bona fide missed, 0.475 / 0.5; at 0.0
    # none missed and half the spoofed accepted, 0.25 / 0.5.
    assert metrics.min_dcf(bonafide, spoof) == pytest.approx(0.5, abs=1e-12)
    # log(0.5 / 0.95) = -0.64: at or above it are all bona fide and three of four spoofed.
    assert metrics.act_dcf(bonafide, spoof) == pytest.approx(0.75, abs=1e-12)


def test_perfect_useless_and_reversed() -> None:
    perfect = [statistic([1.0, 2.0], [-2.0, -1.0]) for statistic in (metrics.eer, metrics.rocch_eer)]
    assert [found.rate for found in perfect] == [0.0, 0.0]
    assert metrics.min_dcf([1.0], [0.0]) == metrics.min_cllr([1.0], [0.0]) == 0.0 and metrics.auc([1.0], [0.0]) == 1.0
    # All equal: one threshold, where all are accepted.
    assert metrics.eer([0.3] * 5, [0.3] * 7).rate == 0.5 and metrics.auc([0.3] * 5, [0.3] * 7) == 0.5
    assert metrics.cllr([0.0] * 5, [0.0] * 7) == metrics.min_cllr([0.3] * 5, [0.3] * 7) == pytest.approx(1.0, abs=1e-12)
    assert metrics.eer([-1.0, -2.0], [1.0, 2.0]).rate == 1.0
    assert metrics.rocch_eer([-1.0, -2.0], [1.0, 2.0]).rate == 0.5, "a coin does as well"
    assert metrics.min_dcf([-1.0], [1.0]) == 1.0


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize(
    ("bonafide", "spoof", "message"),
    [
        ([], [1.0], "no bona fide trials"),
        ([1.0], [], "no spoofed trials"),
        ([1.0, math.nan, math.inf], [1.0], "2 of 3 scores of bona fide trials are NaN or infinite"),
        ([1.0], [-math.inf], "1 of 1 scores of spoofed trials"),
        ([[1.0]], [1.0], r"must be 1-D, found shape \(1, 1\)"),
    ],
)
def test_refuses(
    statistic: Callable[[ArrayLike, ArrayLike], object], bonafide: ArrayLike, spoof: ArrayLike, message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        statistic(bonafide, spoof)


@settings(deadline=None, max_examples=300)
@given(SCORES, SCORES)
def test_the_eer_of_asvspoof_against_brute_force(bonafide: list[float], spoof: list[float]) -> None:
    found = metrics.asvspoof_eer(bonafide, spoof)
    assert (found.rate, found.threshold) == asvspoof_eer(bonafide, spoof)


def test_without_ties_the_two_conventions_are_nearly_equal() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        sizes = random.integers(2, 60, 2)
        bonafide, spoof = random.normal(random.uniform(0, 3), 1, sizes[0]), random.normal(0, 1, sizes[1])
        difference = metrics.asvspoof_eer(bonafide, spoof).rate - metrics.eer(bonafide, spoof).rate
        assert abs(difference) <= 0.25 / min(sizes) + 1e-12


def test_accepted_spoofs() -> None:
    assert metrics.srr_complement([-1.0, 0.0, 0.5, 2.0], 0.0) == 0.75, "a score at the threshold is accepted"
    with pytest.raises(MetricError, match="threshold nan: it must be a finite score"):
        metrics.srr_complement([1.0], math.nan)
    with pytest.raises(MetricError, match="no spoofed trials"):
        metrics.srr_complement([], 0.0)


def test_refuses_costs_and_thresholds() -> None:
    with pytest.raises(MetricError, match="prior must be between 0 and 1"):
        Costs(spoof_prior=0.0)
    with pytest.raises(MetricError, match="a threshold is NaN"):
        metrics.error_rates([1.0], [0.0], [math.nan])


def test_large_scores_do_not_overflow() -> None:
    assert metrics.cllr([1e4], [-1e4]) == 0.0
    assert metrics.cllr([-1e4], [1e4]) == pytest.approx(1e4 / np.log(2))
