"""Bootstrap intervals of metrics, resampled by trial or by cluster, such as the speaker.

    bootstrap(scores, bonafide, ("eer", "auc"))["eer"]

By trial, each class is resampled with replacement to its own size. By cluster, entire clusters are resampled, to their
number: trials of one speaker are alike, and intervals that ignore it are too narrow. With fewer than some twenty
clusters, intervals by cluster are still too narrow. Intervals are percentiles: Efron and
Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spectra_jax.errors import MetricError
from spectra_jax.evaluation.metrics.detection import ASVSPOOF5, Array, Costs, Counts, Levels, validate

STATISTICS: Mapping[str, Callable[[Counts, Costs], float]] = {
    "eer": lambda counts, _: counts.eer().rate,
    "asvspoof_eer": lambda counts, _: counts.asvspoof_eer().rate,
    "rocch_eer": lambda counts, _: counts.rocch_eer().rate,
    "auc": lambda counts, _: counts.auc(),
    "min_dcf": lambda counts, costs: counts.min_dcf(costs),
    "act_dcf": lambda counts, costs: counts.act_dcf(costs),
    "cllr": lambda counts, _: counts.cllr(),
    "min_cllr": lambda counts, _: counts.min_cllr(),
}
"""The metrics that have intervals: name -> function of counts and costs."""

# Clusters of one class can leave a resample without the other class: it is drawn again, at most this many times.
_REDRAWS = 100


@dataclass(frozen=True)
class Interval:
    """A percentile interval."""

    low: float
    high: float


def bootstrap(
    scores: ArrayLike,
    bonafide: ArrayLike,
    statistics: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    clusters: Sequence[object] | Array | None = None,
    confidence: float = 0.95,
    costs: Costs = ASVSPOOF5,
) -> dict[str, Interval]:
    """Intervals of metrics.

    Args:
      scores: (n,), higher = more bona fide.
      bonafide: (n,) bool.
      statistics: names among `STATISTICS`.
      resamples: at least 1; 1,000 suffice for a 95 % interval.
      seed: the same seed gives the same intervals, on any number of cores.
      clusters: (n,) the cluster of each trial, such as its speaker; None resamples by trial.
      confidence: between 0 and 1.
      costs: those of `min_dcf` and `act_dcf`.

    Raises:
      MetricError: scores that no metric can be computed from; or so few clusters that resamples keep lacking a class.
      ValueError: an unknown statistic, or an argument of the wrong shape, type or range.
    """
    drawn = _statistics([RankedScores.of(scores, bonafide)], bonafide, statistics, resamples, seed, clusters, costs)
    return _intervals(drawn[:, 0], statistics, confidence)


def bootstrap_difference(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    bonafide: ArrayLike,
    statistics: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    clusters: Sequence[object] | Array | None = None,
    confidence: float = 0.95,
    costs: Costs = ASVSPOOF5,
) -> dict[str, Interval]:
    """Intervals of metric(a) - metric(b), both on the same resamples, so that what both systems find hard cancels.

    Args and errors are those of `bootstrap`, with two systems' scores of the same n trials.
    """
    systems = [RankedScores.of(scores_a, bonafide), RankedScores.of(scores_b, bonafide)]
    drawn = _statistics(systems, bonafide, statistics, resamples, seed, clusters, costs)
    return _intervals(drawn[:, 0] - drawn[:, 1], statistics, confidence)


@dataclass(frozen=True)
class RankedScores:
    """Scores in ascending order: a resample is then how often each of them occurs."""

    levels: Levels
    order: Array
    starts: Array
    bonafide: Array

    @classmethod
    def of(cls, scores: ArrayLike, bonafide: ArrayLike) -> RankedScores:
        values, labels = np.asarray(scores, np.float64), np.asarray(bonafide)
        if labels.dtype != bool or values.shape != labels.shape:
            raise ValueError(
                f"bonafide must be bool and have the scores' shape {values.shape}: found {labels.dtype} {labels.shape}"
            )
        validate(values[labels], values[~labels])
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        return cls(Levels(ranked[starts]), order, starts, labels[order].astype(np.int64))

    def counts(self, times: Array) -> Counts:
        """Counts of a resample in which trial i occurs `times[i]` times, (n,) int64."""
        ranked = times[self.order]
        total = np.add.reduceat(ranked, self.starts)
        bonafide = np.add.reduceat(ranked * self.bonafide, self.starts)
        return Counts(self.levels, bonafide, total - bonafide)


def _statistics(
    systems: Sequence[RankedScores],
    bonafide: ArrayLike,
    statistics: Sequence[str],
    resamples: int,
    seed: int,
    clusters: Sequence[object] | Array | None,
    costs: Costs,
) -> Array:
    """(resamples, systems, statistics)."""
    if unknown := [name for name in statistics if name not in STATISTICS]:
        raise ValueError(f"no statistic {', '.join(map(repr, unknown))}; known are {', '.join(STATISTICS)}")
    if resamples < 1:
        raise ValueError(f"resamples = {resamples}, but it must be at least 1")
    draw = by_trial(np.asarray(bonafide)) if clusters is None else by_cluster(np.asarray(bonafide), clusters)

    def one(own: np.random.SeedSequence) -> list[list[float]]:
        times = draw(np.random.default_rng(own))
        resampled = [system.counts(times) for system in systems]
        return [[STATISTICS[name](counts, costs) for name in statistics] for counts in resampled]

    # A random stream for each resample: the same on any number of threads. NumPy releases the GIL.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        return np.array(list(pool.map(one, np.random.SeedSequence(seed).spawn(resamples))))


def by_trial(bonafide: Array) -> Callable[[np.random.Generator], Array]:
    """A function that draws how often each trial occurs in a resample, (n,) int64: each class to its own size."""
    classes = [np.flatnonzero(bonafide), np.flatnonzero(~bonafide)]

    def draw(random: np.random.Generator) -> Array:
        times = np.empty(len(bonafide), np.int64)
        for members in classes:
            n = len(members)
            times[members] = np.bincount(random.integers(n, size=n, dtype=np.int64), minlength=n)
        return times

    return draw


def by_cluster(bonafide: Array, clusters: Sequence[object] | Array) -> Callable[[np.random.Generator], Array]:
    """A function that draws how often each trial occurs in a resample, (n,) int64: as often as its cluster is drawn."""
    names = np.array([str(value) for value in clusters])
    if names.shape != bonafide.shape:
        raise ValueError(f"{len(names):,} clusters for {len(bonafide):,} trials")
    _, member = np.unique(names, return_inverse=True)
    number = int(member.max()) + 1

    def draw(random: np.random.Generator) -> Array:
        for _ in range(_REDRAWS):
            times = np.bincount(random.integers(number, size=number), minlength=number)[member]
            drawn = times > 0
            if (drawn & bonafide).any() and (drawn & ~bonafide).any():
                return times
        raise MetricError(f"{number} clusters: {_REDRAWS} resamples in a row have trials of one class only")

    return draw


def _intervals(drawn: Array, statistics: Sequence[str], confidence: float) -> dict[str, Interval]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}, but it must be between 0 and 1")
    ends = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return {name: Interval(float(low), float(high)) for name, low, high in zip(statistics, *ends, strict=True)}
