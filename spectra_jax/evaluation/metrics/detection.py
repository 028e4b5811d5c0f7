"""How well scores tell bona fide from spoofed trials: error rates, and what they cost.

Everywhere `bonafide` and `spoof` are 1-D arrays of scores, higher = more bona fide; a trial is accepted, that is, taken
for bona fide, where its score is at or above the threshold. Rates are fractions, 0 to 1.

Sources: the EER is the Speech Anti-Spoofing Arena's; detection costs as in the ASVspoof 5 evaluation plan (Wang et al.,
2024); the ROC convex hull and Cllr as in Brummer and du Preez, "Application-independent evaluation of speaker
detection" (2006), and Brummer and de Villiers, "The BOSARIS toolkit" (2011).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spectra_jax.errors import MetricError

Array = np.ndarray


@dataclass(frozen=True)
class EqualErrorRate:
    """Where false acceptances and false rejections are as frequent.

    Attributes:
      rate: 0 to 1.
      threshold: a score.
    """

    rate: float
    threshold: float


@dataclass(frozen=True)
class ErrorRates:
    """Rates of both errors over thresholds.

    Attributes:
      thresholds: (k,).
      false_acceptance: (k,) share of the spoofed trials at or above each threshold.
      false_rejection: (k,) share of the bona fide trials below it.
    """

    thresholds: Array
    false_acceptance: Array
    false_rejection: Array


@dataclass(frozen=True)
class Costs:
    """What decisions cost, and how often a spoof comes; by default as in ASVspoof 5, track 1.

    Attributes:
      spoof_prior: P(spoof), between 0 and 1.
      miss: of rejecting a bona fide trial, above 0.
      false_alarm: of accepting a spoofed one, above 0.
    """

    spoof_prior: float = 0.05
    miss: float = 1.0
    false_alarm: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.spoof_prior < 1 and self.miss > 0 and self.false_alarm > 0):
            raise MetricError(
                f"spoof prior {self.spoof_prior:g}, costs {self.miss:g} and {self.false_alarm:g}: the prior must be "
                "between 0 and 1 and the costs above 0"
            )

    def of(self, false_acceptance: Any, false_rejection: Any) -> Any:
        """The normalised detection cost: 1 is what accepting all or rejecting all costs, whichever is cheaper."""
        miss, false_alarm = self.miss * (1 - self.spoof_prior), self.false_alarm * self.spoof_prior
        return (miss * false_rejection + false_alarm * false_acceptance) / min(miss, false_alarm)

    @property
    def threshold(self) -> float:
        """The log-likelihood ratio from which accepting costs less than rejecting."""
        return float(np.log(self.false_alarm * self.spoof_prior) - np.log(self.miss * (1 - self.spoof_prior)))


ASVSPOOF5 = Costs()


def checked(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[Array, Array]:
    """Both classes' scores as float64.

    Raises:
      MetricError: not 1-D, empty, or not finite: which class, and how many.
    """
    classes = []
    for name, given in (("bona fide", bonafide), ("spoofed", spoof)):
        scores = np.asarray(given, np.float64)
        if scores.ndim != 1:
            raise MetricError(f"scores of {name} trials must be 1-D, found shape {scores.shape}")
        if not scores.size:
            raise MetricError(f"no {name} trials: both classes are needed")
        bad = int(scores.size - np.count_nonzero(np.isfinite(scores)))
        if bad:
            raise MetricError(f"{bad:,} of {scores.size:,} scores of {name} trials are NaN or infinite")
        classes.append(scores)
    return classes[0], classes[1]


@dataclass(frozen=True)
class Levels:
    """The distinct scores of some trials, ascending, (k,)."""

    thresholds: Array

    @cached_property
    def losses(self) -> tuple[Array, Array]:
        """What a bona fide and a spoofed trial cost at each, in nats, where scores are log-likelihood ratios."""
        return np.logaddexp(0, -self.thresholds), np.logaddexp(0, self.thresholds)


@dataclass(frozen=True)
class Counts:
    """Trials at each distinct score: all that these metrics depend on, whether of the trials or of a resample.

    Attributes:
      levels: the distinct scores; a resample may have none at some of them.
      bonafide, spoof: (k,) trials at each.
    """

    levels: Levels
    bonafide: Array
    spoof: Array

    @classmethod
    def of(cls, bonafide: ArrayLike, spoof: ArrayLike) -> Counts:
        people, machines = checked(bonafide, spoof)
        thresholds, place = np.unique(np.concatenate([people, machines]), return_inverse=True)
        k = len(thresholds)
        first, second = place[: len(people)], place[len(people) :]
        return cls(Levels(thresholds), np.bincount(first, minlength=k), np.bincount(second, minlength=k))

    @cached_property
    def below(self) -> tuple[Array, Array]:
        """Bona fide and spoofed trials below each level, and in all, (k + 1,)."""
        people, machines = (np.concatenate([[0], np.cumsum(counts)]) for counts in (self.bonafide, self.spoof))
        return people, machines

    @cached_property
    def rates(self) -> tuple[Array, Array]:
        """False acceptance and false rejection at each level, and above all of them, (k + 1,)."""
        people, machines = self.below
        return (machines[-1] - machines) / machines[-1], people / people[-1]

    @cached_property
    def bins(self) -> tuple[Array, Array, Array]:
        """Bins of the best rising posterior (pool adjacent violators): bona fide, spoofed, and first level of each."""
        from scipy.optimize import isotonic_regression

        total = self.bonafide + self.spoof
        there = np.flatnonzero(total)
        total = total[there]
        fit = isotonic_regression(self.bonafide[there] / total, weights=total)
        first = there[fit.blocks[:-1]]
        return np.add.reduceat(self.bonafide, first), np.add.reduceat(self.spoof, first), first

    def eer(self) -> EqualErrorRate:
        people, machines = self.below
        total_people, total_machines = people[-1], machines[-1]

        def rates(level: int) -> tuple[float, float]:
            far = (total_machines - machines[level]) / total_machines
            return float(far), float(people[level] / total_people)

        def rejects_more(level: int) -> bool:
            far, frr = rates(level)
            return far - frr <= 0

        # Above the highest trial of a resample there is no threshold. The difference of the rates falls from 1 at the
        # lowest one, so that its sign first changes where it is first no longer positive.
        thresholds, last = self.levels.thresholds, int(np.flatnonzero(self.bonafide + self.spoof)[-1])
        after = bisect_left(range(last + 1), True, key=rejects_more)
        if after > last:
            far, frr = rates(last)
            return EqualErrorRate((far + frr) / 2, float(thresholds[last]))
        (far, frr), (far_after, frr_after) = rates(after - 1), rates(after)
        before, beyond = far - frr, far_after - frr_after
        alpha = before / (before - beyond)
        far, frr = far + alpha * (far_after - far), frr + alpha * (frr_after - frr)
        step = float(thresholds[after] - thresholds[after - 1])
        return EqualErrorRate((far + frr) / 2, float(thresholds[after - 1]) + alpha * step)

    def rocch_eer(self) -> EqualErrorRate:
        people, machines, first = self.bins
        # The hull's vertices, from accepting all to rejecting all: false acceptance falls and false rejection rises.
        far = 1 - np.concatenate([[0], np.cumsum(machines)]) / machines.sum()
        frr = np.concatenate([[0], np.cumsum(people)]) / people.sum()
        thresholds = np.append(self.levels.thresholds[first], self.levels.thresholds[-1])
        gap = far - frr
        i = int(np.flatnonzero(gap >= 0)[-1])
        if gap[i] == 0:
            return EqualErrorRate(float(far[i]), float(thresholds[i]))
        alpha = gap[i] / (gap[i] - gap[i + 1])
        rate, threshold = (values[i] + alpha * (values[i + 1] - values[i]) for values in (frr, thresholds))
        return EqualErrorRate(float(rate), float(threshold))

    def auc(self) -> float:
        people, machines = self.below
        # Twice the number of pairs in order, ties counting half: whole numbers, so that nothing is rounded.
        ordered = int(np.dot(self.bonafide, machines[:-1] + machines[1:]))
        return ordered / (2 * int(people[-1]) * int(machines[-1]))

    def min_dcf(self, costs: Costs) -> float:
        return float(costs.of(*self.rates).min())

    def act_dcf(self, costs: Costs) -> float:
        at = np.searchsorted(self.levels.thresholds, costs.threshold, side="left")
        far, frr = self.rates
        return float(costs.of(far[at], frr[at]))

    def cllr(self) -> float:
        people, machines = (
            np.dot(counts, losses) / counts.sum()
            for counts, losses in zip((self.bonafide, self.spoof), self.levels.losses, strict=True)
        )
        return float(people + machines) / (2 * np.log(2))

    def min_cllr(self) -> float:
        people, machines, _ = self.bins
        # A bin's log-likelihood ratio is infinite where it has one class alone, and costs that class nothing.
        with np.errstate(divide="ignore"):
            ratio = np.log(people / people.sum()) - np.log(machines / machines.sum())
        cost_people = np.logaddexp(0, -ratio, where=people > 0, out=np.zeros_like(ratio))
        cost_machines = np.logaddexp(0, ratio, where=machines > 0, out=np.zeros_like(ratio))
        cost = np.dot(people, cost_people) / people.sum() + np.dot(machines, cost_machines) / machines.sum()
        return float(cost) / (2 * np.log(2))


def eer(bonafide: ArrayLike, spoof: ArrayLike) -> EqualErrorRate:
    """The equal error rate by the Arena's convention.

    Thresholds are the distinct scores, ascending; d = false acceptance - false rejection. Where the sign of d first
    changes from one threshold to the next, both rates and the threshold are interpolated to d = 0; where it never does,
    the mean of both rates at the smallest |d| is taken.

    Raises:
      MetricError: see `checked`.
    """
    return Counts.of(bonafide, spoof).eer()


def rocch_eer(bonafide: ArrayLike, spoof: ArrayLike) -> EqualErrorRate:
    """The equal error rate on the ROC's convex hull: the best that thresholds and coins together reach.

    The threshold is interpolated between the hull's vertices.

    Raises:
      MetricError: see `checked`.
    """
    return Counts.of(bonafide, spoof).rocch_eer()


def auc(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """The area under the ROC: how often a bona fide trial scores above a spoofed one, ties counting half.

    Raises:
      MetricError: see `checked`.
    """
    return Counts.of(bonafide, spoof).auc()


def min_dcf(bonafide: ArrayLike, spoof: ArrayLike, costs: Costs = ASVSPOOF5) -> float:
    """The normalised detection cost at the best threshold.

    Raises:
      MetricError: see `checked`.
    """
    return Counts.of(bonafide, spoof).min_dcf(costs)


def act_dcf(bonafide: ArrayLike, spoof: ArrayLike, costs: Costs = ASVSPOOF5) -> float:
    """The normalised detection cost at the costs' own threshold, scores taken for natural log-likelihood ratios.

    Raises:
      MetricError: see `checked`.
    """
    return Counts.of(bonafide, spoof).act_dcf(costs)


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """The cost of the log-likelihood ratios, in bits: 0 is perfect, 1 what saying nothing (0 everywhere) costs.

    Raises:
      MetricError: see `checked`.
    """
    return Counts.of(bonafide, spoof).cllr()


def min_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """`cllr` after the best rising calibration on these very trials (pool adjacent violators), in bits.

    Raises:
      MetricError: see `checked`.
    """
    return Counts.of(bonafide, spoof).min_cllr()


def error_rates(bonafide: ArrayLike, spoof: ArrayLike, thresholds: ArrayLike) -> ErrorRates:
    """Both error rates at given thresholds (k,).

    Raises:
      MetricError: see `checked`; or a threshold that is NaN.
    """
    people, machines = (np.sort(scores) for scores in checked(bonafide, spoof))
    at = np.atleast_1d(np.asarray(thresholds, np.float64))
    if np.isnan(at).any():
        raise MetricError("a threshold is NaN")
    far = (len(machines) - np.searchsorted(machines, at, side="left")) / len(machines)
    return ErrorRates(at, far, np.searchsorted(people, at, side="left") / len(people))


def roc(bonafide: ArrayLike, spoof: ArrayLike) -> ErrorRates:
    """Both error rates at every distinct score, ascending, and above all of them (threshold infinity).

    Raises:
      MetricError: see `checked`.
    """
    counts = Counts.of(bonafide, spoof)
    return ErrorRates(np.append(counts.levels.thresholds, np.inf), *counts.rates)
