"""Evaluate a countermeasure's scores together with the scores of automatic speaker verification (ASV)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spectra_jax.data.asv_scores import KEYS, AsvTrials
from spectra_jax.errors import MetricError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import Evaluation
from spectra_jax.evaluation.metrics import AsvRates, AsvScores


@dataclass(frozen=True)
class TandemEvaluation:
    """Figures of a countermeasure and ASV in tandem; see `spectra_jax.evaluation.metrics` for each.

    Attributes:
      asv_name: of the file with the scores of ASV.
      asv: error rates of ASV at its threshold.
      min_tdcf_2019, min_tdcf_2021: as the challenges of 2019, and of 2021 and later, normalise it.
      t_eer_percent: the concurrent t-EER.
      a_dcf: of the column `sasv-score`, or else of ASV alone.
      a_dcf_is_of: which of the two.
    """

    asv_name: str
    asv: AsvRates
    min_tdcf_2019: float
    min_tdcf_2021: float
    t_eer_percent: float
    a_dcf: float
    a_dcf_is_of: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def evaluate_tandem(evaluation: Evaluation, asv: AsvTrials) -> TandemEvaluation:
    """Evaluate the trials of an evaluation together with ASV.

    Args:
      evaluation: of the countermeasure.
      asv: the scores of ASV, of the same subset.

    Raises:
      MetricError: a class of ASV without scores, or figures that are not defined for these scores.
    """
    bonafide, spoof = evaluation.scores[evaluation.bonafide], evaluation.scores[~evaluation.bonafide]
    classes = _classes(asv, asv.scores)
    rates = classes.rates()
    sasv = asv.sasv_scores
    return TandemEvaluation(
        asv_name=asv.name,
        asv=rates,
        min_tdcf_2019=metrics.min_tdcf(bonafide, spoof, rates, normalisation="2019"),
        min_tdcf_2021=metrics.min_tdcf(bonafide, spoof, rates, normalisation="2021"),
        t_eer_percent=100 * metrics.t_eer(bonafide, spoof, classes),
        a_dcf=metrics.a_dcf(classes if sasv is None else _classes(asv, sasv)),
        a_dcf_is_of="ASV alone" if sasv is None else "sasv-score",
    )


def _classes(asv: AsvTrials, scores: np.ndarray) -> AsvScores:
    try:
        return AsvScores(*(scores[asv.keys == key] for key in KEYS))
    except MetricError as error:
        raise MetricError(f"{asv.name}: {error}") from error
