"""Calibration: what a score says, as a log-likelihood ratio, learnt from a development set.

    calibration = fit_logistic(bonafide, spoof)
    calibration.log_likelihood_ratio(scores)              # natural logarithm of p(score | bona fide) / p(score | spoof)
    calibration.spoof_probability(scores, spoof_prior=0.05)

Either kind weighs both classes alike, so that a development set's share of spoofed trials does not enter; the prior is
stated where probabilities are asked for. Source: Brummer and du Preez (2006); Platt, "Probabilistic outputs for support
vector machines" (1999), for what keeps separable classes finite.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from spectra_jax.errors import MetricError
from spectra_jax.evaluation.metrics.detection import Array, Counts, checked

Kind = Literal["logistic", "isotonic"]
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """A rising, piecewise linear map from scores to log-likelihood ratios.

    Attributes:
      kind: how it was learnt.
      scores: (k,) the knots, ascending. A logistic one has two and goes on beyond them; an isotonic one stays level.
      ratios: (k,) natural log-likelihood ratios there.
      n_bonafide, n_spoof: trials that it was learnt from.
    """

    kind: Kind
    scores: tuple[float, ...]
    ratios: tuple[float, ...]
    n_bonafide: int
    n_spoof: int

    def log_likelihood_ratio(self, scores: ArrayLike) -> Array:
        """Natural log-likelihood ratios of scores, in their shape: above 0 speaks for bona fide."""
        values = np.asarray(scores, np.float64)
        if self.kind == "isotonic":
            return np.interp(values, self.scores, self.ratios)
        (first, second), (low, high) = self.scores, self.ratios
        return low + (values - first) * ((high - low) / (second - first))

    def spoof_probability(self, scores: ArrayLike, spoof_prior: float) -> Array:
        """P(spoof | score) where a trial is a spoof with probability `spoof_prior` before it is heard.

        Raises:
          MetricError: a prior that is not between 0 and 1.
        """
        if not 0 < spoof_prior < 1:
            raise MetricError(f"a spoof prior of {spoof_prior}, but it must be between 0 and 1")
        against = self.log_likelihood_ratio(scores) + np.log1p(-spoof_prior) - np.log(spoof_prior)
        return np.exp(-np.logaddexp(0, against))

    def to_json(self) -> str:
        """As text that `from_json` reads back to the bit."""
        return json.dumps({"format": "spectra-jax calibration", "version": FORMAT_VERSION, **asdict(self)}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
          MetricError: it is something else, or was changed by hand to what no calibration can be.
        """
        try:
            given = json.loads(text)
        except RecursionError as error:
            raise MetricError("not a calibration: JSON nested too deeply") from error
        # An integer of thousands of digits, too.
        except ValueError as error:
            raise MetricError(f"not a calibration: not valid JSON: {error}") from error
        if not isinstance(given, dict) or given.get("format") != "spectra-jax calibration":
            raise MetricError("not a calibration: `spectra-jax calibrate` writes one")
        if given.get("version") != FORMAT_VERSION:
            raise MetricError(f"a calibration of version {given.get('version')!r}; this package reads {FORMAT_VERSION}")
        try:
            found = cls(
                given["kind"],
                tuple(float(score) for score in given["scores"]),
                tuple(float(ratio) for ratio in given["ratios"]),
                int(given["n_bonafide"]),
                int(given["n_spoof"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MetricError(f"a damaged calibration: {error!r}") from error
        found._check()
        return found

    def _check(self) -> None:
        knots = np.array([self.scores, self.ratios]) if len(self.scores) == len(self.ratios) else np.empty((2, 0))
        few = knots.shape[1] != 2 if self.kind == "logistic" else knots.shape[1] < 1
        if self.kind not in get_args(Kind) or few or not np.isfinite(knots).all():
            raise MetricError(f"a damaged calibration: kind {self.kind!r} with {len(self.scores)} scores")
        if (np.diff(knots[0]) <= 0).any() or (np.diff(knots[1]) < 0).any():
            raise MetricError("a damaged calibration: it does not rise")


def fit_logistic(bonafide: ArrayLike, spoof: ArrayLike) -> Calibration:
    """The line `a * score + b` under which log-likelihood ratios cost least (Cllr).

    Targets are (n + 1) / (n + 2) rather than 1, after Platt, so that classes which no score confuses give a finite line
    too. A line that falls would contradict what a score means.

    Raises:
      MetricError: see `metrics.eer`; all scores equal; or spoofed trials score higher than bona fide ones.
    """
    from scipy.optimize import minimize

    people, machines = checked(bonafide, spoof)
    pooled = np.concatenate([people, machines])
    centre, width = float(pooled.mean()), float(pooled.std())
    if width == 0:
        raise MetricError(f"all {len(pooled):,} scores are {centre}: nothing can be learnt from them")
    classes = [
        ((scores - centre) / width, (len(scores) + 1) / (len(scores) + 2), sign)
        for scores, sign in ((people, 1.0), (machines, -1.0))
    ]

    def cost(line: Array) -> tuple[float, Array]:
        value, gradient = 0.0, np.zeros(2)
        for scores, target, sign in classes:
            ratio = sign * (line[0] * scores + line[1])
            value += float(np.mean(np.logaddexp(0, ratio) - target * ratio))
            slope = sign * (np.exp(-np.logaddexp(0, -ratio)) - target)
            gradient += [np.mean(slope * scores), np.mean(slope)]
        return value, gradient

    found = minimize(cost, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
    slope, offset = found.x
    if np.abs(found.jac).max() > 1e-5:
        raise MetricError(f"the logistic calibration did not converge: {found.message}")
    if slope <= 0:
        raise MetricError("spoofed trials score higher than bona fide ones: are the labels, or the scores, reversed?")
    ratios = tuple(float(slope * place + offset) for place in (-1.0, 1.0))
    return Calibration("logistic", (centre - width, centre + width), ratios, len(people), len(machines))


def fit_isotonic(bonafide: ArrayLike, spoof: ArrayLike) -> Calibration:
    """The best rising curve (pool adjacent violators), level within each bin and linear between neighbouring ones.

    Half a trial of each class is added to each bin's counts, so that bins of one class stay finite.

    Raises:
      MetricError: see `metrics.eer`.
    """
    counts = Counts.of(bonafide, spoof)
    people, machines, first = counts.bins
    total_people, total_machines = people.sum(), machines.sum()
    ratios = np.log((people + 0.5) / (total_people + 1)) - np.log((machines + 0.5) / (total_machines + 1))
    # Small bins between larger ones can leave the order by that half.
    ratios = np.maximum.accumulate(ratios)
    thresholds = counts.levels.thresholds
    ends = np.concatenate([thresholds[first[1:] - 1], thresholds[-1:]])
    knots = np.stack([thresholds[first], ends], axis=1).ravel()
    # A bin of one score has one knot.
    kept = np.concatenate([[True], np.diff(knots) > 0])
    scores, levels = knots[kept], np.repeat(ratios, 2)[kept]
    return Calibration(
        "isotonic", tuple(scores.tolist()), tuple(levels.tolist()), int(total_people), int(total_machines)
    )
