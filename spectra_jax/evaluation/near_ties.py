"""What near ties can explain, and what they cannot.

Rounding can swap two nodes of a graph pool whose scores nearly tie, and the trial's score then jumps. Such jumps are
rare, have either sign, and leave the other trials with a near tie alone. A wrong score can happen to be at a near tie,
so that a near tie alone explains nothing: `check_near_ties` tests whether the differences that two systems have at near
ties can be such jumps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spectra_jax.messages import count
from spectra_jax.model.rank_gap import GAP_BOUND

JUMP_RATE = 1 / 80
"""The probability that rounding makes the score of a trial with a near tie jump.

Measured: 1 in 89, 12 jumps at 1,066 near ties: 400 clips of a tiny network, in float64 and in float32 with batches of
1, 3 and 8, all six pairs, each with its own bound. With ten times the trials the rate falls, since the bound rises.
"""
LEVEL = 1e-3
"""The p-value below which a test finds that near ties do not explain the differences."""

# The bound in units of the largest change of a rank gap. Where two nodes swap, the smaller of both gaps is at
# most half of the change. Of a tiny network and the demo, four times the largest change of 20 trials is at least 0.9
# times that of 400 clips (in 95 of 100 draws of 20).
_BOUND_BY_CHANGE = 4
FEWEST_TRIALS = 20
"""Trials that are needed to measure the bound."""


@dataclass(frozen=True)
class GapBound:
    """The rank gap below which a trial has a near tie.

    Attributes:
      value: the bound.
      num_trials: on how many trials it was measured; None for a bound that was stated.
    """

    value: float
    num_trials: int | None = None


@dataclass(frozen=True)
class NearTieTests:
    """Whether rounding can explain the differences at near ties. Each test can refuse that, none can prove it.

    Attributes:
      num_near_ties: trials with a near tie.
      num_jumps: of these, the differences to explain: all beyond the tolerance, without those of a wrong size.
      num_positive: of the jumps, those with a > b.
      num_wrong_size: differences beyond the tolerance where b's score is none that the network has with tied nodes
        swapped. They are unexplained, whatever the tests find. None where such scores are unknown.
      p_number: of a binomial test: the probability of so many jumps or more, at `JUMP_RATE`.
      p_sign: of a two-sided sign test of the jumps.
      shift: the mean of a - b of the trials with a near tie that did not jump, minus that of the trials without one;
        None where there are none of either.
      p_shift: of a Mann-Whitney test of these trials; None as for `shift`.
      shift_matters: whether the shift is also larger than the median |a - b| of the trials without a near tie. In many
        trials any shift is significant.
    """

    num_near_ties: int
    num_jumps: int
    num_positive: int
    num_wrong_size: int | None
    p_number: float
    p_sign: float
    shift: float | None
    p_shift: float | None
    shift_matters: bool

    @property
    def refusals(self) -> Sequence[str]:
        """Why near ties do not explain the differences, a clause for each test that finds so; empty if they can."""
        clauses = []
        if self.p_number < LEVEL:
            clauses.append(
                f"{self.num_jumps:,} of {count(self.num_near_ties, 'trial')} with a near tie differ, and rounding "
                f"changes 1 in {1 / JUMP_RATE:.0f} (p = {self.p_number:.1g})"
            )
        if self.p_sign < LEVEL:
            more = max(self.num_positive, self.num_jumps - self.num_positive)
            clauses.append(f"{more:,} of {self.num_jumps:,} differences have the same sign (p = {self.p_sign:.1g})")
        if self.shift is not None and self.p_shift is not None and self.p_shift < LEVEL and self.shift_matters:
            clauses.append(
                f"the other trials with a near tie are shifted by {self.shift:+.2g} on average (p = {self.p_shift:.1g})"
            )
        return clauses

    @property
    def summary(self) -> str:
        """What was tested, with the numbers."""
        tests = [
            f"number of differences, {self.num_jumps:,} of {self.num_near_ties:,} where rounding changes 1 in "
            f"{1 / JUMP_RATE:.0f} (p = {self.p_number:.2g})",
            f"signs (p = {self.p_sign:.2g})",
        ]
        if self.p_shift is not None:
            tests.append(f"shift of the others (p = {self.p_shift:.2g})")
        if self.num_wrong_size is not None:
            tests.append(f"size, {self.num_wrong_size:,} unlike the network's scores with tied nodes swapped")
        summary = f"Tests of the trials with a near tie: {'; '.join(tests)}."
        if self.num_wrong_size is None:
            summary += " Not tested: the size of the differences; verify tests it, unless these tests refuse."
        return summary

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "refusals": list(self.refusals)}


def measure_gap_bound(
    gaps_a: np.ndarray, gaps_b: np.ndarray, agrees: np.ndarray, largest_change: float = math.inf
) -> GapBound:
    """The bound of a network and precision, from the rank gaps of two evaluations that differ by rounding.

    Args:
      gaps_a, gaps_b: (n,) the smallest rank gap of each trial, NaN or infinite where unknown.
      agrees: (n,) bool: the trials whose scores agree. A jump may change gaps of later pools by any amount.
      largest_change: of a gap, that can be rounding. Between systems of which one may be wrong, a single trial could
        otherwise set a bound below which every trial has a near tie.

    Returns:
      Four times the largest change of a trial's gap; `spectra_jax.model.rank_gap.GAP_BOUND` where fewer than 20 trials
      have both gaps, or where one of them changes by more than `largest_change`.
    """
    measured = agrees & np.isfinite(gaps_a) & np.isfinite(gaps_b)
    if (num_trials := int(measured.sum())) < FEWEST_TRIALS:
        return GapBound(GAP_BOUND)
    change = float(np.abs(gaps_a[measured] - gaps_b[measured]).max())
    return GapBound(GAP_BOUND) if change > largest_change else GapBound(_BOUND_BY_CHANGE * change, num_trials)


def jump_probability(num_jumps: int, num_near_ties: int) -> float:
    """The probability that rounding makes so many scores jump, or more."""
    from scipy import stats

    return float(stats.binomtest(num_jumps, num_near_ties, JUMP_RATE, alternative="greater").pvalue)


def check_near_ties(
    differences: np.ndarray,
    near_tie: np.ndarray,
    beyond: np.ndarray,
    wrong_size: np.ndarray | None = None,
) -> NearTieTests | None:
    """Test whether rounding can explain the differences at near ties.

    Args:
      differences: (n,) a - b.
      near_tie: (n,) bool: the trials with a near tie.
      beyond: (n,) bool: the trials that differ by more than the tolerance.
      wrong_size: (n,) bool: the trials whose difference cannot come from swapped nodes; None where that is unknown.

    Returns:
      None where no trial with a near tie differs.
    """
    from scipy import stats

    if not (near_tie & beyond).any():
        return None
    jumps = near_tie & beyond if wrong_size is None else near_tie & beyond & ~wrong_size
    num_jumps, num_positive = int(jumps.sum()), int((differences[jumps] > 0).sum())
    quiet, others = differences[near_tie & ~beyond], differences[~near_tie & ~beyond]
    shift = p_shift = None
    if len(quiet) and len(others):
        shift = float(quiet.mean() - others.mean())
        p_shift = float(stats.mannwhitneyu(quiet, others).pvalue)
    return NearTieTests(
        num_near_ties=int(near_tie.sum()),
        num_jumps=num_jumps,
        num_positive=num_positive,
        num_wrong_size=None if wrong_size is None else int((near_tie & beyond & wrong_size).sum()),
        p_number=jump_probability(num_jumps, int(near_tie.sum())),
        p_sign=float(stats.binomtest(num_positive, num_jumps).pvalue) if num_jumps else 1.0,
        shift=shift,
        p_shift=p_shift,
        shift_matters=shift is not None and abs(shift) > float(np.median(np.abs(others))),
    )
