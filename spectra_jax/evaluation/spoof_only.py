"""Evaluate scores of a dataset without bona fide trials: how many of its spoofs a threshold from elsewhere accepts.

    threshold = evaluate(read_scores("deepvoice.txt"), deepvoice_labels).threshold
    evaluate_spoof_only(read_scores("lrlspoof.txt"), lrlspoof_labels, threshold).srr_complement

An EER needs both classes. The Speech Anti-Spoofing Arena therefore carries the threshold of the same system's EER over
from another dataset, and reports `srr_complement`, one minus the spoof rejection rate, in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectra_jax.data.labels import Labels, labels_of
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import CONFIDENCE, check_columns, match_trials, members_by_value
from spectra_jax.evaluation.metrics import Interval
from spectra_jax.messages import count


@dataclass(frozen=True)
class AcceptedSpoofs:
    """Spoofed trials, and how many of them are accepted.

    Attributes:
      n_spoof: number of trials.
      srr_complement: the share that is accepted, in percent.
      interval: of it, in percent; None without resamples.
    """

    n_spoof: int
    srr_complement: float
    interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        interval = {} if self.interval is None else {"srr_complement_interval": [self.interval.low, self.interval.high]}
        return {"n_spoof": self.n_spoof, "srr_complement": self.srr_complement, **interval}


@dataclass(frozen=True)
class SpoofOnlyEvaluation(AcceptedSpoofs):
    """A system's spoofed trials.

    Attributes:
      name: of the system.
      labels_name: of the labels.
      threshold: at or above which trials are accepted.
      exact: whether scores are as read, not rounded to six decimals.
      n_skipped: trials that the score file lists without a score.
      resamples, seed: of the intervals.
      groups: by column and value.
    """

    name: str
    labels_name: str
    threshold: float
    exact: bool
    n_skipped: int
    resamples: int
    seed: int
    groups: Mapping[str, Mapping[str, AcceptedSpoofs]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as `spectra-jax evaluate --json` prints them."""
        values = super().to_dict() | {
            "scores": self.name,
            "labels": self.labels_name,
            "threshold": self.threshold,
            "rounded_to_six_decimals": not self.exact,
            "n_skipped": self.n_skipped,
            "resamples": self.resamples,
            "seed": self.seed,
            "confidence": CONFIDENCE,
        }
        if self.groups:
            values["groups"] = {
                column: {name: group.to_dict() for name, group in groups.items()}
                for column, groups in self.groups.items()
            }
        return values


def evaluate_spoof_only(
    scores: Scores,
    labels: Labels | None,
    threshold: float,
    *,
    exact: bool = False,
    common: bool = False,
    by: Sequence[str] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> SpoofOnlyEvaluation:
    """Evaluate spoofed trials at a threshold.

    Args:
      scores: of the system.
      labels: of its trials, all spoofed; None takes the score file's own column `label`.
      threshold: at or above which trials are accepted as bona fide.
      exact, common, by, resamples, seed: as in `spectra_jax.evaluate`.

    Raises:
      InputError: bona fide trials among the labels, ids that do not match, an unknown column.
      MetricError: scores or a threshold that are not finite.
    """
    labels = labels_of(scores) if labels is None else labels
    if labels.bonafide.any():
        raise InputError(
            f"{labels.name}: {count(int(labels.bonafide.sum()), 'bona fide trial')}, with which there is an EER; this "
            "evaluation is of datasets that have spoofed trials only"
        )
    trials = match_trials(scores, labels, exact=exact, common=common)
    check_columns(by, trials.columns, f"{scores.name} or {labels.name}")
    random = np.random.default_rng(seed)
    groups = {}
    for name in by:
        groups[name] = {
            value: _accepted(trials.scores[members], threshold, resamples, random)
            for value, members in members_by_value(trials.columns[name])
        }
    overall = _accepted(trials.scores, threshold, resamples, random)
    return SpoofOnlyEvaluation(
        overall.n_spoof,
        overall.srr_complement,
        overall.interval,
        name=scores.name,
        labels_name=labels.name,
        threshold=threshold,
        exact=exact,
        n_skipped=len(scores.skipped),
        resamples=resamples,
        seed=seed,
        groups=groups,
    )


def _accepted(scores: np.ndarray, threshold: float, resamples: int, random: np.random.Generator) -> AcceptedSpoofs:
    rate = metrics.srr_complement(scores, threshold)
    return AcceptedSpoofs(len(scores), 100 * rate, _interval(rate, len(scores), resamples, random))


def _interval(rate: float, trials: int, resamples: int, random: np.random.Generator) -> Interval | None:
    if not resamples:
        return None
    # How many accepted trials a resample has is binomial: the trials need not be drawn one by one.
    drawn = random.binomial(trials, rate, resamples) / trials
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(100 * low), float(100 * high))
