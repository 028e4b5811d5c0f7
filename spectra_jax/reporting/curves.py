"""The numbers behind the charts: few enough for a page, whatever the number of trials."""

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
    """Error rates over thresholds, thinned, and how far they move when the trials are drawn again.

    Attributes:
      false_acceptance, false_rejection: (k,) fractions.
      grid: (m,) false acceptance, ascending.
      low, high: (m,) ends of the 95 % interval of the false rejection at each.
    """

    false_acceptance: Array
    false_rejection: Array
    grid: Array
    low: Array
    high: Array


def probit(rates: ArrayLike) -> Array:
    """The normal deviate of rates, those at 0 and 1 moved to where they can be drawn."""
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(np.asarray(rates, np.float64), _EDGE, 1 - _EDGE)))


def curve(
    bonafide: ArrayLike, spoof: ArrayLike, *, resamples: int = 1000, seed: int = 0, points: int = POINTS
) -> Curve:
    """Error rates, thinned evenly along the DET curve, with pointwise bootstrap bands.

    Trials are drawn within each class, so that the counts between two thresholds are multinomial: no trial needs to be
    touched again. A band is that of the false rejection at a given false acceptance.

    Raises:
      MetricError: see `metrics.eer`.
    """
    rates = metrics.roc(bonafide, spoof)
    far, frr = rates.false_acceptance, rates.false_rejection
    kept = _evenly(probit(far), probit(frr), points)
    far, frr = far[kept], frr[kept]
    n_people, n_machines = np.size(np.asarray(bonafide)), np.size(np.asarray(spoof))
    grid = _grid(n_machines)
    if not resamples:
        return Curve(far, frr, grid[:0], grid[:0], grid[:0])
    random = np.random.default_rng(seed)
    rejected = _redrawn(random, np.diff(frr, append=1.0), n_people, resamples)
    accepted = 1 - _redrawn(random, np.diff(1 - far, append=1.0), n_machines, resamples)
    # Descending in false acceptance, as thresholds rise.
    drawn = np.array([np.interp(grid, a[::-1], r[::-1]) for a, r in zip(accepted, rejected, strict=True)])
    low, high = np.quantile(drawn, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2], axis=0)
    return Curve(far, frr, grid, low, high)


def at_false_acceptance(found: Curve, rates: ArrayLike) -> tuple[Array, Array, Array]:
    """False rejection at given false acceptances, and its interval (NaN where there is no band)."""
    wanted = np.asarray(rates, np.float64)
    middle = np.interp(wanted, found.false_acceptance[::-1], found.false_rejection[::-1])
    if not len(found.grid):
        return middle, np.full_like(middle, np.nan), np.full_like(middle, np.nan)
    return middle, np.interp(wanted, found.grid, found.low), np.interp(wanted, found.grid, found.high)


def _grid(n: int) -> Array:
    from scipy.special import ndtr

    least = max(0.5 / n, _EDGE)
    end = float(probit(least))
    inner = ndtr(np.linspace(end, -end, 120))
    return np.concatenate([[0.0], inner, [1.0]])


def _evenly(x: Array, y: Array, points: int) -> Array:
    if len(x) <= points:
        return np.arange(len(x))
    way = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    return np.unique(np.append(np.searchsorted(way, np.linspace(0, way[-1], points)).clip(max=len(x) - 1), [0]))


def _redrawn(random: np.random.Generator, shares: Array, n: int, resamples: int) -> Array:
    """Shares below each threshold in resamples, (resamples, k), from the shares between neighbouring ones, (k,)."""
    counts = random.multinomial(n, np.maximum(shares, 0) / np.maximum(shares, 0).sum(), size=resamples)
    below = np.cumsum(counts, axis=1) - counts
    return below / n


def bin_edges(scores: ArrayLike, bins: int = 60) -> Array:
    """Equal bins over all but the outermost thousandth at either end; what lies beyond belongs to the end bins."""
    values = np.asarray(scores, np.float64)
    low, high = np.quantile(values, [0.001, 0.999]) if len(values) > 2000 else (values.min(), values.max())
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, min(bins, max(8, int(2 * np.sqrt(len(values))))) + 1)


def shares(scores: ArrayLike, edges: Array) -> Array:
    """The share of the scores in each bin, (bins,), summing to 1."""
    values = np.clip(np.asarray(scores, np.float64), edges[0], edges[-1])
    counts, _ = np.histogram(values, edges)
    return np.asarray(counts / max(len(values), 1))


@dataclass(frozen=True)
class Reliability:
    """How often trials are bona fide where P(bona fide) is said to be so much.

    Attributes:
      said, found: (k,) means of each bin, with both classes weighing alike.
      n: (k,) trials.
    """

    said: Array
    found: Array
    n: Array


def reliability(ratios: ArrayLike, bonafide: Array) -> Reliability:
    """Reliability of natural log-likelihood ratios at even odds, in up to 12 bins of about equal numbers of trials."""
    # Of some ten trials of the rarer class each: the shares of smaller bins say nothing.
    bins = int(np.clip(min(bonafide.sum(), (~bonafide).sum()) // 10, 3, 12))
    said = 0.5 * (1 + np.tanh(np.asarray(ratios, np.float64) / 2))
    weight = np.where(bonafide, 0.5 / bonafide.sum(), 0.5 / (~bonafide).sum())
    groups = [group for group in np.array_split(np.argsort(said, kind="stable"), bins) if len(group)]
    total = np.array([weight[group].sum() for group in groups])
    return Reliability(
        np.array([(weight * said)[group].sum() for group in groups]) / total,
        np.array([(weight * bonafide)[group].sum() for group in groups]) / total,
        np.array([len(group) for group in groups]),
    )
