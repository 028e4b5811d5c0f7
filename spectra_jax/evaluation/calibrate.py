"""Fit a calibration to the scores of a development set.

calibrated = calibrate(read_scores("dev.csv"), read_labels("dev_protocol.txt"))
calibrated.calibration.log_likelihood_ratio(scores)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.evaluation.metrics import Calibration, cllr, fit_isotonic, fit_logistic
from spectra_jax.evaluation.metrics.calibration import Kind


@dataclass(frozen=True)
class CalibratedScores:
    """A calibration and its effect on the development set that it was fitted to.

    Attributes:
      calibration: as fitted.
      labels_name: of the labels.
      subsets: the number of trials of each subset, by the column `subset`; empty without it.
      cllr_before: Cllr of the scores taken as log-likelihood ratios, in bits.
      cllr_after: Cllr of the calibrated scores, in bits.
      min_cllr: the lowest Cllr that a rising map reaches, in bits.
    """

    calibration: Calibration
    labels_name: str
    subsets: Mapping[str, int]
    cllr_before: float
    cllr_after: float
    min_cllr: float


def calibrate(
    scores: Scores, labels: Labels | None = None, *, method: Kind = "logistic", common: bool = False
) -> CalibratedScores:
    """Fit a calibration.

    Args:
      scores: of a development set, not of the set to be evaluated.
      labels: of its trials; None takes the score file's own column `label`.
      method: a line, or any rising step curve.
      common: use the trials that have both a score and a label; otherwise a trial with only one of them is an error.

    Raises:
      InputError: ids that do not match.
      MetricError: one class only, or scores that no calibration can be fitted to.
    """
    found = evaluate(scores, labels, exact=True, common=common, resamples=0)
    fit = {"logistic": fit_logistic, "isotonic": fit_isotonic}[method]
    calibration = fit(found.scores[found.bonafide], found.scores[~found.bonafide])
    ratios = calibration.log_likelihood_ratio(found.scores)
    return CalibratedScores(
        calibration=calibration,
        labels_name=found.labels_name,
        subsets=found.subsets,
        cllr_before=found.cllr,
        cllr_after=cllr(ratios[found.bonafide], ratios[~found.bonafide]),
        min_cllr=found.min_cllr,
    )
