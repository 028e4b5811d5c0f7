"""Metrics of a spoofing countermeasure (CM) together with automatic speaker verification (ASV).

    min_tdcf(bonafide, spoof, asv.rates(), normalisation="2021")
    t_eer(bonafide, spoof, asv)
    a_dcf(sasv)

A trial of ASV is of one of three classes: the target speaker, another speaker (nontarget), or a spoof. Higher scores
mean the target speaker. In tandem a trial is accepted where both systems accept it.

Sources: the t-DCF of 2018 and its ASV-constrained form, Kinnunen et al., "Tandem assessment of spoofing countermeasures
and automatic speaker verification: fundamentals" (2020), with the costs that the ASVspoof challenges share; the t-EER,
Kinnunen et al., "t-EER: parameter-free tandem evaluation of countermeasures and biometric comparators" (2023); the
a-DCF, Shim et al., "a-DCF: an architecture agnostic metric" (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from spectra_jax.errors import MetricError
from spectra_jax.evaluation.metrics.detection import Array, Counts, asvspoof_eer, validate_class

Normalisation = Literal["2019", "2021"]
"""The year of the challenge that a t-DCF is normalised as: the one of 2019 leaves out the cost of ASV alone."""


@dataclass(frozen=True)
class TandemCosts:
    """Priors and costs of a tandem's wrong decisions; by default those of ASVspoof 2019, 2021 and 5.

    Attributes:
      target_prior, nontarget_prior, spoof_prior: of the three classes; they add up to 1.
      miss: the cost of rejecting a target.
      false_alarm: the cost of accepting another speaker.
      spoof_false_alarm: the cost of accepting a spoof.
    """

    target_prior: float = 0.95 * 0.99
    nontarget_prior: float = 0.95 * 0.01
    spoof_prior: float = 0.05
    miss: float = 1.0
    false_alarm: float = 10.0
    spoof_false_alarm: float = 10.0

    def __post_init__(self) -> None:
        priors = (self.target_prior, self.nontarget_prior, self.spoof_prior)
        if (
            min(priors) < 0
            or abs(sum(priors) - 1) > 1e-9
            or min(self.miss, self.false_alarm, self.spoof_false_alarm) < 0
        ):
            raise MetricError(f"{self}: priors must add up to 1, and neither they nor costs may be below 0")


@dataclass(frozen=True)
class AsvRates:
    """Error rates of ASV at its threshold, as fractions.

    Attributes:
      miss: of targets that are rejected.
      false_alarm: of other speakers that are accepted.
      spoof_false_alarm: of spoofs that are accepted.
    """

    miss: float
    false_alarm: float
    spoof_false_alarm: float


ASVSPOOF5_ASV = AsvRates(
    miss=0.01880141010575793, false_alarm=0.01881016557566423, spoof_false_alarm=0.4607082907604729
)
"""The rates of the ASV system of ASVspoof 5, which the challenge publishes instead of its scores."""


@dataclass(frozen=True)
class AsvScores:
    """Scores of ASV, or of one system that does both, by the class of the trial: 1-D, float64 and finite.

    Raises:
      MetricError: a class without scores, or scores that are not finite.
    """

    target: Array
    nontarget: Array
    spoof: Array

    def __post_init__(self) -> None:
        for name in ("target", "nontarget", "spoof"):
            object.__setattr__(self, name, validate_class(name, getattr(self, name)))

    @property
    def threshold(self) -> float:
        """The threshold of the EER of targets against other speakers, by the convention of ASVspoof."""
        return asvspoof_eer(self.target, self.nontarget).threshold

    def rates(self) -> AsvRates:
        """The error rates at that threshold."""
        threshold = self.threshold
        return AsvRates(
            miss=float(np.mean(self.target < threshold)),
            false_alarm=float(np.mean(self.nontarget >= threshold)),
            spoof_false_alarm=float(np.mean(self.spoof >= threshold)),
        )

    def curves(self) -> tuple[Array, Array, Array]:
        """Misses, false alarms and accepted spoofs at each distinct score and above the highest, (k + 1,) each."""
        levels = np.append(np.unique(np.concatenate([self.target, self.nontarget, self.spoof])), np.inf)
        target, nontarget, spoof = (
            np.searchsorted(np.sort(scores), levels, side="left") / len(scores)
            for scores in (self.target, self.nontarget, self.spoof)
        )
        return target, 1 - nontarget, 1 - spoof


def min_tdcf(
    bonafide: ArrayLike,
    spoof: ArrayLike,
    asv: AsvRates,
    costs: TandemCosts | None = None,
    *,
    normalisation: Normalisation = "2021",
) -> float:
    """The normalised tandem detection cost at the best threshold of the CM, ASV being fixed.

    Args:
      bonafide, spoof: scores of the CM.
      asv: error rates of ASV.
      costs: by default those of the challenges.
      normalisation: see `Normalisation`.

    Raises:
      MetricError: see `validate`; or ASV errs so often that no CM improves the tandem.
    """
    costs = costs or TandemCosts()
    asv_cost = costs.target_prior * costs.miss * asv.miss + costs.nontarget_prior * costs.false_alarm * asv.false_alarm
    miss_cost = costs.target_prior * costs.miss - asv_cost
    false_alarm_cost = costs.spoof_prior * costs.spoof_false_alarm * asv.spoof_false_alarm
    if miss_cost <= 0 or false_alarm_cost <= 0:
        raise MetricError(
            f"the t-DCF is not defined: with these error rates of ASV ({asv.miss:.3f}, {asv.false_alarm:.3f}, "
            f"{asv.spoof_false_alarm:.3f}), rejecting all trials or accepting all spoofs costs nothing"
        )
    far, frr = Counts.of(bonafide, spoof).rates
    offset = 0.0 if normalisation == "2019" else asv_cost
    cost = offset + miss_cost * frr + false_alarm_cost * far
    return float(cost.min() / (offset + min(miss_cost, false_alarm_cost)))


def t_eer(bonafide: ArrayLike, spoof: ArrayLike, asv: AsvScores) -> float:
    """The concurrent tandem equal error rate, 0 to 1: misses, accepted speakers and accepted spoofs are equally many.

    The errors of the CM and of ASV count as independent. For each threshold of ASV, the CM gets the threshold at which
    misses and false alarms differ least, half of the attempts being spoofs, as in ASVspoof 5. Thresholds at which ASV
    alone misses more than it falsely accepts are left out: no CM makes these errors equal. Of the other pairs, it takes
    the one at which accepted speakers and accepted spoofs differ least by their ratio, and returns the share of
    accepted spoofs there.

    Raises:
      MetricError: see `validate`.
    """
    cm_false_alarm, cm_miss = Counts.of(bonafide, spoof).rates
    asv_miss, asv_false_alarm, asv_spoof_false_alarm = asv.curves()

    def excess(level: Array) -> Array:
        """Misses minus false alarms with the CM at a level, for each threshold of ASV."""
        passed = 1 - cm_miss[level]
        false_alarm = passed * asv_false_alarm + cm_false_alarm[level] * asv_spoof_false_alarm
        return cm_miss[level] + passed * asv_miss - false_alarm / 2

    # The excess rises with the CM's threshold: halve the range in which it becomes positive.
    low, high = np.zeros(len(asv_miss), np.int64), np.full(len(asv_miss), len(cm_miss) - 1)
    while (high - low).max() > 1:
        middle = (low + high) // 2
        crossed = excess(middle) >= 0
        low, high = np.where(crossed, low, middle), np.where(crossed, middle, high)
    level = np.where(np.abs(excess(high)) < np.abs(excess(low)), high, low)
    passed = 1 - cm_miss[level]
    # At level 0 the CM accepts all trials.
    defined = np.flatnonzero((excess(np.zeros_like(level)) < 0) & (asv_spoof_false_alarm > 0) & (passed > 0))
    if not len(defined):
        raise MetricError("the t-EER is not defined: at no pair of thresholds are misses and false alarms equal")
    ratio = asv_false_alarm[defined] / asv_spoof_false_alarm[defined]
    best = defined[np.argmin(np.abs(ratio - cm_false_alarm[level[defined]] / passed[defined]))]
    return float(cm_false_alarm[level[best]] * asv_spoof_false_alarm[best])


def a_dcf(sasv: AsvScores, costs: TandemCosts | None = None) -> float:
    """The normalised architecture-agnostic detection cost at the best threshold.

    Args:
      sasv: scores of one system that verifies speakers and rejects spoofs.
      costs: by default those of ASVspoof 5.
    """
    costs = costs or TandemCosts()
    miss, false_alarm, spoof_false_alarm = sasv.curves()
    weights = (
        costs.target_prior * costs.miss,
        costs.nontarget_prior * costs.false_alarm,
        costs.spoof_prior * costs.spoof_false_alarm,
    )
    cost = weights[0] * miss + weights[1] * false_alarm + weights[2] * spoof_false_alarm
    return float(cost.min() / min(weights[0], weights[1] + weights[2]))
