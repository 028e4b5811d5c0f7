"""Metrics of detection scores: pure functions of numbers, without files or printing."""

from spectra_jax.errors import MetricError
from spectra_jax.evaluation.metrics.bootstrap import STATISTICS, Interval, bootstrap, bootstrap_difference
from spectra_jax.evaluation.metrics.calibration import Calibration, fit_isotonic, fit_logistic
from spectra_jax.evaluation.metrics.detection import (
    ASVSPOOF5,
    Costs,
    EqualErrorRate,
    ErrorRates,
    act_dcf,
    auc,
    cllr,
    eer,
    error_rates,
    min_cllr,
    min_dcf,
    roc,
    rocch_eer,
)

__all__ = [
    "ASVSPOOF5",
    "STATISTICS",
    "Calibration",
    "Costs",
    "EqualErrorRate",
    "ErrorRates",
    "Interval",
    "MetricError",
    "act_dcf",
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
    "roc",
    "rocch_eer",
]
