"""Detection metrics: how well scores separate bona fide from spoofed trials.

Everywhere `bonafide` and `spoof` are 1-D arrays of scores, higher = more bona fide; a trial is accepted, that is, taken
for bona fide, where its score is at or above the threshold. Rates are fractions, 0 to 1.

Sources: the EER is the Speech Anti-Spoofing Arena's, and by name that of the ASVspoof challenges, as published with the
keys of 2019 and 2021; `srr_complement` is the Arena's as well; detection costs as in the ASVspoof 5 evaluation plan
(Wang et al., 2024); the ROC convex hull and Cllr as in Brummer and du Preez, "Application-independent evaluation of
speaker detection" (2006), and Brummer and de Villiers, "The BOSARIS toolkit" (2011).
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
    """Where false acceptances and false rejections are equally frequent.

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
    """Costs of wrong decisions and the prior of a spoof; by default those of ASVspoof 5, track 1.

    Attributes:
      spoof_prior: P(spoof), between 0 and 1.
      miss: the cost of rejecting a bona fide trial, above 0.
      false_alarm: the cost of accepting a spoofed trial, above 0.
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

    def detection_cost(self, false_acceptance: Any, false_rejection: Any) -> Any:
        """The normalised detection cost; accepting all or rejecting all trials, whichever is cheaper, costs 1."""
        miss, false_alarm = self.miss * (1 - self.spoof_prior), self.false_alarm * self.spoof_prior
        return (miss * false_rejection + false_alarm * false_acceptance) / min(miss, false_alarm)

    @property
    def threshold(self) -> float:
        """The log-likelihood ratio from which accepting costs less than rejecting."""
        return float(np.log(self.false_alarm * self.spoof_prior) - np.log(self.miss * (1 - self.spoof_prior)))


ASVSPOOF5 = Costs()


def validate(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[Array, Array]:
    """Both classes' scores as float64.

    Raises:
      MetricError: not 1-D, empty, or not finite: which class, and how many.
    """
    return validate_class("bona fide", bonafide), validate_class("spoofed", spoof)


def validate_class(name: str, given: ArrayLike) -> Array:
    """One class's scores as float64.

    Raises:
      MetricError: see `validate`.
    """
    scores = np.asarray(given, np.float64)
    if scores.ndim != 1:
        raise MetricError(f"scores of {name} trials must be 1-D, found shape {scores.shape}")
    if not scores.size:
        raise MetricError(f"no {name} trials: both classes are needed")
    bad = int(scores.size - np.count_nonzero(np.isfinite(scores)))
    if bad:
        raise MetricError(f"{bad:,} of {scores.size:,} scores of {name} trials are NaN or infinite")
    return scores


@dataclass(frozen=True)
class Levels:
    """The distinct scores of some trials, ascending, (k,)."""

    thresholds: Array

    @cached_property
    def losses(self) -> tuple[Array, Array]:
        """The cost of a bona fide and of a spoofed trial at each, in nats, scores taken for log-likelihood ratios."""
        return np.logaddexp(0, -self.thresholds), np.logaddexp(0, self.thresholds)


@dataclass(frozen=True)
class Counts:
    """How many trials have each distinct score, in the data or in a resample: all that these metrics depend on.

    Attributes:
      levels: the distinct scores; a resample may have no trial at some of them.
      bonafide, spoof: (k,) numbers of trials at each.
    """

    levels: Levels
    bonafide: Array
    spoof: Array

    @classmethod
    def of(cls, bonafide: ArrayLike, spoof: ArrayLike) -> Counts:
        bonafide_scores, spoof_scores = validate(bonafide, spoof)
        thresholds, level = np.unique(np.concatenate([bonafide_scores, spoof_scores]), return_inverse=True)
        k = len(thresholds)
        of_bonafide, of_spoof = level[: len(bonafide_scores)], level[len(bonafide_scores) :]
        return cls(Levels(thresholds), np.bincount(of_bonafide, minlength=k), np.bincount(of_spoof, minlength=k))

    @cached_property
    def below(self) -> tuple[Array, Array]:
        """Bona fide and spoofed trials below each level, and their totals last, (k + 1,)."""
        bonafide, spoof = (np.concatenate([[0], np.cumsum(counts)]) for counts in (self.bonafide, self.spoof))
        return bonafide, spoof

    @cached_property
    def rates(self) -> tuple[Array, Array]:
        """False acceptance and false rejection at each level, and above the highest, (k + 1,)."""
        bonafide, spoof = self.below
        return (spoof[-1] - spoof) / spoof[-1], bonafide / bonafide[-1]

    @cached_property
    def bins(self) -> tuple[Array, Array, Array]:
        """Bins of the best rising posterior (pool adjacent violators): bona fide, spoofed and first level of each."""
        from scipy.optimize import isotonic_regression

        total = self.bonafide + self.spoof
        occupied = np.flatnonzero(total)
        total = total[occupied]
        fit = isotonic_regression(self.bonafide[occupied] / total, weights=total)
        first = occupied[fit.blocks[:-1]]
        return np.add.reduceat(self.bonafide, first), np.add.reduceat(self.spoof, first), first

    def eer(self) -> EqualErrorRate:
        bonafide, spoof = self.below

        def rates(level: int) -> tuple[float, float]:
            far = (spoof[-1] - spoof[level]) / spoof[-1]
            return float(far), float(bonafide[level] / bonafide[-1])

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

    def asvspoof_eer(self) -> EqualErrorRate:
        bonafide, spoof = self.below

        def rejects_more(level: int) -> bool:
            return bool(bonafide[level] / bonafide[-1] >= (spoof[-1] - spoof[level]) / spoof[-1])

        # Trials are rejected one by one, and of equal scores bona fide trials first. The difference of the rates only
        # rises, so that it is smallest within the level on which it changes its sign.
        level = bisect_left(range(len(bonafide)), True, key=rejects_more) - 1
        rejected_bonafide, rejected_spoof = np.arange(self.bonafide[level] + 1), np.arange(1, self.spoof[level] + 1)
        frr = bonafide[level] + np.append(rejected_bonafide, np.full(len(rejected_spoof), rejected_bonafide[-1]))
        accepted = spoof[-1] - spoof[level] - np.append(np.zeros_like(rejected_bonafide), rejected_spoof)
        frr, far = frr / bonafide[-1], accepted / spoof[-1]
        i = int(np.argmin(np.abs(frr - far)))
        return EqualErrorRate(float(np.mean((frr[i], far[i]))), self._highest_rejected(level if i else level - 1))

    def _highest_rejected(self, level: int) -> float:
        """The score of the highest trial up to a level; slightly below the lowest trial where there is none."""
        trials = np.flatnonzero(self.bonafide + self.spoof)
        if level < trials[0]:
            return float(self.levels.thresholds[trials[0]] - 0.001)
        return float(self.levels.thresholds[trials[trials <= level][-1]])

    def rocch_eer(self) -> EqualErrorRate:
        bonafide, spoof, first = self.bins
        # The hull's vertices, from accepting all to rejecting all: false acceptance falls and false rejection rises.
        far = 1 - np.concatenate([[0], np.cumsum(spoof)]) / spoof.sum()
        frr = np.concatenate([[0], np.cumsum(bonafide)]) / bonafide.sum()
        thresholds = np.append(self.levels.thresholds[first], self.levels.thresholds[-1])
        gap = far - frr
        i = int(np.flatnonzero(gap >= 0)[-1])
        if gap[i] == 0:
            return EqualErrorRate(float(far[i]), float(thresholds[i]))
        alpha = gap[i] / (gap[i] - gap[i + 1])
        rate, threshold = (values[i] + alpha * (values[i + 1] - values[i]) for values in (frr, thresholds))
        return EqualErrorRate(float(rate), float(threshold))

    def auc(self) -> float:
        bonafide, spoof = self.below
        # Twice the number of pairs in order, ties counting half: integers, so that nothing is rounded.
        ordered = int(np.dot(self.bonafide, spoof[:-1] + spoof[1:]))
        return ordered / (2 * int(bonafide[-1]) * int(spoof[-1]))

    def min_dcf(self, costs: Costs) -> float:
        return float(costs.detection_cost(*self.rates).min())

    def act_dcf(self, costs: Costs) -> float:
        at = np.searchsorted(self.levels.thresholds, costs.threshold, side="left")
        far, frr = self.rates
        return float(costs.detection_cost(far[at], frr[at]))

    def cllr(self) -> float:
        bonafide, spoof = (
            np.dot(counts, losses) / counts.sum()
            for counts, losses in zip((self.bonafide, self.spoof), self.levels.losses, strict=True)
        )
        return float(bonafide + spoof) / (2 * np.log(2))

    def min_cllr(self) -> float:
        bonafide, spoof, _ = self.bins
        # The log-likelihood ratio of a bin of one class is infinite, and costs that class nothing.
        with np.errstate(divide="ignore"):
            ratio = np.log(bonafide / bonafide.sum()) - np.log(spoof / spoof.sum())
        bonafide_cost = np.logaddexp(0, -ratio, where=bonafide > 0, out=np.zeros_like(ratio))
        spoof_cost = np.logaddexp(0, ratio, where=spoof > 0, out=np.zeros_like(ratio))
        cost = np.dot(bonafide, bonafide_cost) / bonafide.sum() + np.dot(spoof, spoof_cost) / spoof.sum()
        return float(cost) / (2 * np.log(2))


def eer(bonafide: ArrayLike, spoof: ArrayLike) -> EqualErrorRate:
    """The equal error rate by the Arena's convention.

    Thresholds are the distinct scores, ascending; d = false acceptance - false rejection. Where the sign of d first
    changes from one threshold to the next, both rates and the threshold are interpolated to d = 0; where it never does,
    the mean of both rates at the smallest |d| is taken.

    Raises:
      MetricError: see `validate`.
    """
    return Counts.of(bonafide, spoof).eer()


def asvspoof_eer(bonafide: ArrayLike, spoof: ArrayLike) -> EqualErrorRate:
    """The equal error rate by the convention of the ASVspoof challenges.

    Trials in ascending order of their scores, bona fide ones first among equal scores, are rejected one by one. Where
    the rates differ least, first of all, their mean is taken, without interpolation. The threshold is the highest
    rejected score: unlike elsewhere, a trial at the threshold is rejected.

    Raises:
      MetricError: see `validate`.
    """
    return Counts.of(bonafide, spoof).asvspoof_eer()


def rocch_eer(bonafide: ArrayLike, spoof: ArrayLike) -> EqualErrorRate:
    """The equal error rate on the ROC's convex hull: the lowest that randomised thresholds reach.

    The threshold is interpolated between the hull's vertices.

    Raises:
      MetricError: see `validate`.
    """
    return Counts.of(bonafide, spoof).rocch_eer()


def auc(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """The area under the ROC: how often a bona fide trial scores above a spoofed one, ties counting half.

    Raises:
      MetricError: see `validate`.
    """
    return Counts.of(bonafide, spoof).auc()


def min_dcf(bonafide: ArrayLike, spoof: ArrayLike, costs: Costs = ASVSPOOF5) -> float:
    """The normalised detection cost at the best threshold.

    Raises:
      MetricError: see `validate`.
    """
    return Counts.of(bonafide, spoof).min_dcf(costs)


def act_dcf(bonafide: ArrayLike, spoof: ArrayLike, costs: Costs = ASVSPOOF5) -> float:
    """The normalised detection cost at the costs' own threshold, scores taken for natural log-likelihood ratios.

    Raises:
      MetricError: see `validate`.
    """
    return Counts.of(bonafide, spoof).act_dcf(costs)


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """The cost of the log-likelihood ratios, in bits: 0 is perfect, and a ratio of 0 for every trial costs 1.

    Raises:
      MetricError: see `validate`.
    """
    return Counts.of(bonafide, spoof).cllr()


def min_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """`cllr` after the best rising calibration on these very trials (pool adjacent violators), in bits.

    Raises:
      MetricError: see `validate`.
    """
    return Counts.of(bonafide, spoof).min_cllr()


def srr_complement(spoof: ArrayLike, threshold: float) -> float:
    """The share of spoofed trials that a threshold accepts: one minus the spoof rejection rate.

    It needs no bona fide trials: the threshold is that of the same system's EER on another dataset.

    Args:
      spoof: scores of spoofed trials.
      threshold: scores at or above it are accepted.

    Raises:
      MetricError: no scores, or scores or a threshold that are not finite.
    """
    if not np.isfinite(threshold):
        raise MetricError(f"threshold {threshold}: it must be a finite score")
    scores = validate_class("spoofed", spoof)
    return float(np.count_nonzero(scores >= threshold) / len(scores))


def error_rates(bonafide: ArrayLike, spoof: ArrayLike, thresholds: ArrayLike) -> ErrorRates:
    """Both error rates at given thresholds (k,).

    Raises:
      MetricError: see `validate`; or a threshold that is NaN.
    """
    bonafide_scores, spoof_scores = (np.sort(scores) for scores in validate(bonafide, spoof))
    at = np.atleast_1d(np.asarray(thresholds, np.float64))
    if np.isnan(at).any():
        raise MetricError("a threshold is NaN")
    far = (len(spoof_scores) - np.searchsorted(spoof_scores, at, side="left")) / len(spoof_scores)
    return ErrorRates(at, far, np.searchsorted(bonafide_scores, at, side="left") / len(bonafide_scores))


def roc(bonafide: ArrayLike, spoof: ArrayLike) -> ErrorRates:
    """Both error rates at every distinct score, ascending, and above the highest (threshold infinity).

    Raises:
      MetricError: see `validate`.
    """
    counts = Counts.of(bonafide, spoof)
    return ErrorRates(np.append(counts.levels.thresholds, np.inf), *counts.rates)
