"""Metrics of detection scores: pure functions of arrays, without files or printing."""

from spectra_jax.errors import MetricError
from spectra_jax.evaluation.metrics.bootstrap import STATISTICS, Interval, bootstrap, bootstrap_difference
from spectra_jax.evaluation.metrics.calibration import Calibration, fit_isotonic, fit_logistic
from spectra_jax.evaluation.metrics.detection import (
    ASVSPOOF5,
    Costs,
    EqualErrorRate,
    ErrorRates,
    act_dcf,
    asvspoof_eer,
    auc,
    cllr,
    eer,
    error_rates,
    min_cllr,
    min_dcf,
    roc,
    rocch_eer,
    srr_complement,
)
from spectra_jax.evaluation.metrics.tandem import (
    ASVSPOOF5_ASV,
    AsvRates,
    AsvScores,
    TandemCosts,
    a_dcf,
    min_tdcf,
    t_eer,
)

__all__ = [
    "ASVSPOOF5",
    "ASVSPOOF5_ASV",
    "STATISTICS",
    "AsvRates",
    "AsvScores",
    "Calibration",
    "Costs",
    "EqualErrorRate",
    "ErrorRates",
    "Interval",
    "MetricError",
    "TandemCosts",
    "a_dcf",
    "act_dcf",
    "asvspoof_eer",
    "auc",
    "bootstrap",
    "bootstrap_difference",
    "cllr",
    "eer",
    "error_rates",
    "fit_isotonic",
    "fit_logistic",
    "min_cllr",
    "min_dcf",
    "min_tdcf",
    "roc",
    "rocch_eer",
    "srr_complement",
    "t_eer",
]
