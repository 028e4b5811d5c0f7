"""What near ties can explain: the number of jumps, their signs, the other trials, and the bound of rank gaps."""

from __future__ import annotations

import numpy as np
import pytest

from spectra_jax.evaluation.near_ties import (
    JUMP_RATE,
    LEVEL,
    NearTieTests,
    check_near_ties,
    jump_probability,
    measure_gap_bound,
)
from spectra_jax.model.rank_gap import GAP_BOUND

N = 400


def outcome(num_jumps: int, num_near_ties: int, *, sign: float = 0.0, shift: float = 0.0) -> NearTieTests:
    """The tests of differences of 1e-6 with jumps of 0.01, the first of them with one sign if that is not 0."""
    differences = np.random.default_rng(0).uniform(-1e-6, 1e-6, N)
    differences[:num_near_ties] += shift
    differences[:num_jumps] = np.where(np.arange(num_jumps) % 2, 0.01, -0.01) if sign == 0 else sign
    trials = np.arange(N)
    tests = check_near_ties(differences, trials < num_near_ties, trials < num_jumps)
    assert tests is not None
    return tests


@pytest.mark.parametrize(("num_near_ties", "most"), [(1, 1), (4, 1), (5, 2), (77, 5), (300, 11)])
def test_the_number_of_jumps_has_a_limit(num_near_ties: int, most: int) -> None:
    assert jump_probability(most, num_near_ties) >= LEVEL
    assert outcome(most, num_near_ties).refusals == []
    if most < num_near_ties:
        (refusal,) = outcome(most + 1, num_near_ties).refusals
        assert refusal.startswith(f"{most + 1} of {num_near_ties} trials with a near tie differ")


def test_the_number_is_that_of_a_binomial_distribution() -> None:
    assert jump_probability(0, 9) == 1.0
    assert jump_probability(1, 9) == pytest.approx(1 - (1 - JUMP_RATE) ** 9)
    assert jump_probability(9, 9) == pytest.approx(JUMP_RATE**9)


def test_jumps_of_one_sign_are_no_jumps() -> None:
    assert outcome(10, 300, sign=-0.01).refusals == []
    assert outcome(10, 300, sign=-0.01).p_sign == pytest.approx(2 / 2**10)
    (refusal,) = outcome(11, 300, sign=-0.01).refusals
    assert refusal.startswith("11 of 11 differences have the same sign")


def test_trials_that_did_not_jump_have_no_shift() -> None:
    shifted = outcome(1, 50, shift=2e-6)
    (refusal,) = shifted.refusals
    assert "the other trials with a near tie are shifted by +2" in refusal
    assert shifted.shift == pytest.approx(2e-6, abs=3e-7)
    small = outcome(1, 200, shift=4e-7)
    assert small.p_shift is not None and small.p_shift < LEVEL and small.refusals == [], "less than rounding"
    alone = outcome(1, 1)
    assert alone.shift is alone.p_shift is None and alone.refusals == [] and "shift" not in alone.summary


def test_a_difference_of_another_size_is_no_jump() -> None:
    differences = np.array([0.01, 0.5, 0.0, 0.0])
    near_tie, beyond = np.array([True, True, True, False]), differences > 0
    tests = check_near_ties(differences, near_tie, beyond, wrong_size=np.array([False, True, True, True]))
    assert tests is not None and (tests.num_jumps, tests.num_wrong_size, tests.num_near_ties) == (1, 1, 3)
    assert check_near_ties(differences, ~beyond, beyond) is None, "nothing to explain"


def test_the_bound_is_measured_from_the_gaps_of_two_evaluations() -> None:
    random = np.random.default_rng(0)
    a = random.exponential(1e-4, N)
    b = a + random.uniform(-1e-7, 1e-7, N)
    agrees = np.ones(N, bool)
    bound = measure_gap_bound(a, b, agrees)
    assert bound.value == pytest.approx(4 * np.abs(a - b).max()) and bound.num_trials == N
    # A jump, and trials without gaps.
    b[0], a[1], a[2] = 1.0, np.nan, np.inf
    agrees[0] = False
    assert measure_gap_bound(a, b, agrees).num_trials == N - 3
    agrees[23:] = False
    assert measure_gap_bound(a, b, agrees).num_trials == 20
    agrees[22:] = False
    stated = measure_gap_bound(a, b, agrees)
    assert stated.value == GAP_BOUND and stated.num_trials is None


def test_gaps_that_are_infinite_on_both_sides_are_left_out() -> None:
    gaps_a, gaps_b = np.full(N, np.inf), np.full(N, np.inf)
    gaps_a[:20], gaps_b[:20] = 1e-3, 1e-3 + 1e-7
    assert measure_gap_bound(gaps_a, gaps_b, np.ones(N, bool)).value == pytest.approx(4e-7), "without a warning"
