"""The numbers that charts draw: few enough for a page, whatever the number of trials."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from spectra_jax.evaluation import metrics

Array = np.ndarray

POINTS = 300
_EDGE = 1e-5
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Curve:
    """Error rates over thresholds, thinned, with bootstrap bands.

    Attributes:
      false_acceptance, false_rejection: (k,) fractions.
      grid: (m,) false acceptance, ascending; empty without bands.
      low, high: (m,) ends of the 95 % interval of the false rejection at each point of `grid`.
    """

    false_acceptance: Array
    false_rejection: Array
    grid: Array
    low: Array
    high: Array


def probit(rates: ArrayLike) -> Array:
    """The normal deviates of rates; those of 0 and 1, which are infinite, are replaced by finite ones."""
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(np.asarray(rates, np.float64), _EDGE, 1 - _EDGE)))


def curve(
    bonafide: ArrayLike, spoof: ArrayLike, *, resamples: int = 1000, seed: int = 0, points: int = POINTS
) -> Curve:
    """Error rates, thinned evenly along the DET curve, with pointwise bootstrap bands.

    Trials are resampled within each class, so that the counts between two thresholds are multinomial and are drawn
    directly. The band is that of the false rejection at a given false acceptance.

    Raises:
      MetricError: see `metrics.eer`.
    """
    rates = metrics.roc(bonafide, spoof)
    far, frr = rates.false_acceptance, rates.false_rejection
    kept = _evenly(probit(far), probit(frr), points)
    far, frr = far[kept], frr[kept]
    n_bonafide, n_spoof = np.size(np.asarray(bonafide)), np.size(np.asarray(spoof))
    grid = _grid(n_spoof)
    if not resamples:
        return Curve(far, frr, grid[:0], grid[:0], grid[:0])
    random = np.random.default_rng(seed)
    rejected = _resampled(random, np.diff(frr, append=1.0), n_bonafide, resamples)
    accepted = 1 - _resampled(random, np.diff(1 - far, append=1.0), n_spoof, resamples)
    # False acceptance falls as thresholds rise, and `np.interp` needs it to rise.
    drawn = np.array([np.interp(grid, a[::-1], r[::-1]) for a, r in zip(accepted, rejected, strict=True)])
    low, high = np.quantile(drawn, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2], axis=0)
    return Curve(far, frr, grid, low, high)


def at_false_acceptance(drawn: Curve, rates: ArrayLike) -> tuple[Array, Array, Array]:
    """False rejection at given false acceptances, and its interval (NaN where there is no band)."""
    wanted = np.asarray(rates, np.float64)
    middle = np.interp(wanted, drawn.false_acceptance[::-1], drawn.false_rejection[::-1])
    if not len(drawn.grid):
        return middle, np.full_like(middle, np.nan), np.full_like(middle, np.nan)
    return middle, np.interp(wanted, drawn.grid, drawn.low), np.interp(wanted, drawn.grid, drawn.high)


def _grid(n: int) -> Array:
    """Rates of false acceptance between half a trial of `n` and all but half a trial, evenly in normal deviates."""
    from scipy.special import ndtr

    least = max(0.5 / n, _EDGE)
    end = float(probit(least))
    inner = ndtr(np.linspace(end, -end, 120))
    return np.concatenate([[0.0], inner, [1.0]])


def _evenly(x: Array, y: Array, points: int) -> Array:
    """Indices of about so many points at equal distances along the line through all of them."""
    if len(x) <= points:
        return np.arange(len(x))
    distance = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    return np.unique(
        np.append(np.searchsorted(distance, np.linspace(0, distance[-1], points)).clip(max=len(x) - 1), [0])
    )


def _resampled(random: np.random.Generator, shares: Array, n: int, resamples: int) -> Array:
    """Shares below each threshold, (resamples, k), in resamples of `n` trials that have `shares` (k,) between them."""
    counts = random.multinomial(n, np.maximum(shares, 0) / np.maximum(shares, 0).sum(), size=resamples)
    below = np.cumsum(counts, axis=1) - counts
    return below / n


def bin_edges(scores: ArrayLike, bins: int = 60) -> Array:
    """Edges of equal bins, (bins + 1,), over all scores but the outermost thousandth at each end if there are many."""
    values = np.asarray(scores, np.float64)
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) > 2000 else (values.min(), values.max())
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, min(bins, max(8, int(2 * np.sqrt(len(values))))) + 1)


def shares(scores: ArrayLike, edges: Array) -> Array:
    """The share of the scores in each bin, (bins,), summing to 1; scores beyond the edges count in the end bins."""
    values = np.clip(np.asarray(scores, np.float64), edges[0], edges[-1])
    counts, _ = np.histogram(values, edges)
    return np.asarray(counts / max(len(values), 1))


@dataclass(frozen=True)
class Reliability:
    """Stated probabilities of bona fide and the observed shares of bona fide trials, by bin.

    Attributes:
      stated, observed: (k,) means of each bin, with both classes weighted equally.
      n: (k,) trials in each bin.
    """

    stated: Array
    observed: Array
    n: Array


def reliability(ratios: ArrayLike, bonafide: Array) -> Reliability:
    """Reliability of natural log-likelihood ratios at even odds, in up to 12 bins of about equal numbers of trials."""
    # Each of about ten trials of the rarer class: shares of fewer trials are noise.
    bins = int(np.clip(min(bonafide.sum(), (~bonafide).sum()) // 10, 3, 12))
    stated = 0.5 * (1 + np.tanh(np.asarray(ratios, np.float64) / 2))
    weight = np.where(bonafide, 0.5 / bonafide.sum(), 0.5 / (~bonafide).sum())
    groups = [group for group in np.array_split(np.argsort(stated, kind="stable"), bins) if len(group)]
    total = np.array([weight[group].sum() for group in groups])
    return Reliability(
        np.array([(weight * stated)[group].sum() for group in groups]) / total,
        np.array([(weight * bonafide)[group].sum() for group in groups]) / total,
        np.array([len(group) for group in groups]),
    )
