"""Tandem metrics against their definitions, written out one pair of thresholds at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from spectra_jax.errors import MetricError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.metrics import ASVSPOOF5_ASV, AsvRates, AsvScores, TandemCosts


def case(seed: int, decimals: int = 6) -> tuple[np.ndarray, np.ndarray, AsvScores]:
    random = np.random.default_rng(seed)
    scores = (np.round(random.normal(mean, 1, 15 + 3 * index), decimals) for index, mean in enumerate((2, 0, 3, 0, 2)))
    bonafide, spoof, *asv = scores
    return bonafide, spoof, AsvScores(*asv)


def shares(scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """The shares that are rejected and accepted."""
    accepted = sum(score >= threshold for score in scores) / len(scores)
    return 1 - accepted, accepted


def thresholds(*scores: np.ndarray) -> list[float]:
    return [*sorted(set(np.concatenate(scores))), np.inf]


def test_the_rates_of_asv_are_those_at_its_eer() -> None:
    _, _, asv = case(0)
    threshold = metrics.asvspoof_eer(asv.target, asv.nontarget).threshold
    expected = [shares(asv.target, threshold)[0], *(shares(one, threshold)[1] for one in (asv.nontarget, asv.spoof))]
    rates = asv.rates()
    assert [rates.miss, rates.false_alarm, rates.spoof_false_alarm] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 6])
def test_min_tdcf_is_the_lowest_of_all_thresholds(decimals: int) -> None:
    bonafide, spoof, asv = case(1, decimals)
    rates = asv.rates()
    costs = TandemCosts(0.7, 0.1, 0.2, miss=1.0, false_alarm=2.0, spoof_false_alarm=3.0)
    # The costs of the tandem's four errors, the CM and ASV erring independently of each other.
    both_miss = 0.7 * rates.miss + 0.1 * 2.0 * rates.false_alarm

    def cost(threshold: float) -> float:
        missed, accepted = shares(bonafide, threshold)[0], shares(spoof, threshold)[1]
        rejected_targets = 0.7 * (missed + (1 - missed) * rates.miss)
        accepted_speakers = 0.1 * 2.0 * (1 - missed) * rates.false_alarm
        return rejected_targets + accepted_speakers + 0.2 * 3.0 * accepted * rates.spoof_false_alarm

    lowest = min(map(cost, thresholds(bonafide, spoof)))
    default = min(cost(-np.inf), cost(np.inf))
    assert metrics.min_tdcf(bonafide, spoof, rates, costs) == pytest.approx(lowest / default, abs=1e-12)
    legacy = (lowest - both_miss) / (default - both_miss)
    assert metrics.min_tdcf(bonafide, spoof, rates, costs, normalisation="2019") == pytest.approx(legacy, abs=1e-12)


def test_min_tdcf_of_a_perfect_and_of_a_useless_cm() -> None:
    perfect, useless = ([2.0, 3.0], [0.0, 1.0]), ([1.0], [1.0])
    assert metrics.min_tdcf(*perfect, ASVSPOOF5_ASV, normalisation="2019") == 0
    assert 0 < metrics.min_tdcf(*perfect, ASVSPOOF5_ASV) < 0.2, "the errors of ASV remain"
    assert metrics.min_tdcf(*useless, ASVSPOOF5_ASV) == metrics.min_tdcf(*useless, AsvRates(0.1, 0.1, 0.5)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_t_eer_is_where_all_three_errors_meet(seed: int) -> None:
    bonafide, spoof, asv = case(seed)
    candidates = []
    for of_asv in thresholds(asv.target, asv.nontarget, asv.spoof):
        missed_by_asv = shares(asv.target, of_asv)[0]
        speakers, spoofs = shares(asv.nontarget, of_asv)[1], shares(asv.spoof, of_asv)[1]
        pairs = []
        for of_cm in thresholds(bonafide, spoof):
            missed, accepted = shares(bonafide, of_cm)[0], shares(spoof, of_cm)[1]
            misses = missed + (1 - missed) * missed_by_asv
            false_alarms = ((1 - missed) * speakers + accepted * spoofs) / 2
            pairs.append((abs(misses - false_alarms), missed, accepted))
        _, missed, accepted = min(pairs, key=lambda pair: pair[0])
        # Otherwise no CM makes the errors equal.
        if missed_by_asv < (speakers + spoofs) / 2 and spoofs and missed < 1:
            candidates.append((abs(speakers / spoofs - accepted / (1 - missed)), accepted * spoofs))
    _, expected = min(candidates, key=lambda candidate: candidate[0])
    assert metrics.t_eer(bonafide, spoof, asv) == pytest.approx(expected, abs=1e-12)


def test_t_eer_needs_a_threshold_of_asv_at_which_errors_can_be_equal() -> None:
    # Above 8, one nontarget and one spoof of ten each are left and no target: with a CM that accepts all trials, both
    # would be accepted equally often, and nearly all targets missed.
    targets, nontargets, spoofs = np.linspace(2, 7, 10), np.append(np.linspace(0, 3, 9), 9), np.append([4.0] * 9, 9)
    bonafide, spoof = np.linspace(0, 2, 20), np.linspace(-1, 1.5, 20)
    assert metrics.t_eer(bonafide, spoof, AsvScores(targets, nontargets, spoofs)) > 0.15


def test_t_eer_of_separable_scores_is_zero() -> None:
    asv = AsvScores(np.array([5.0, 6.0]), np.array([0.0, 1.0]), np.array([4.0, 5.5]))
    assert metrics.t_eer([2.0, 3.0], [0.0, 1.0], asv) == 0


def test_a_dcf_is_the_lowest_of_all_thresholds() -> None:
    for seed, decimals in itertools.product(range(3), (0, 6)):
        _, _, sasv = case(seed, decimals)
        costs = [
            0.9405 * shares(sasv.target, threshold)[0]
            + 0.0095 * 10 * shares(sasv.nontarget, threshold)[1]
            + 0.05 * 10 * shares(sasv.spoof, threshold)[1]
            for threshold in thresholds(sasv.target, sasv.nontarget, sasv.spoof)
        ]
        assert metrics.a_dcf(sasv) == pytest.approx(min(costs) / 0.595, abs=1e-12)


def test_refuses() -> None:
    with pytest.raises(MetricError, match="no target trials"):
        AsvScores(np.array([]), np.array([0.0]), np.array([0.0]))
    with pytest.raises(MetricError, match="priors must add up to 1"):
        TandemCosts(spoof_prior=0.5)
    with pytest.raises(MetricError, match="the t-DCF is not defined"):
        metrics.min_tdcf([1.0], [0.0], AsvRates(0.0, 0.0, 0.0))
    with pytest.raises(MetricError, match="no spoofed trials"):
        metrics.t_eer([1.0], [], AsvScores(np.array([1.0]), np.array([0.0]), np.array([0.0])))
