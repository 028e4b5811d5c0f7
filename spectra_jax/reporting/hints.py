"""Hints about scores that look inverted: shown by the commands and on the report's page."""

from __future__ import annotations

from spectra_jax.evaluation.compare import Comparison
from spectra_jax.evaluation.evaluate import Evaluation
from spectra_jax.messages import printable

# A rank correlation below this is not accidental for two systems that agree on little.
_OPPOSITE = -0.5


def evaluation_hints(evaluation: Evaluation) -> list[str]:
    """A hint where the EER is above 50 %."""
    return _inverted(evaluation.name, evaluation.eer_percent)


def comparison_hints(comparison: Comparison) -> list[str]:
    """A hint for each system whose EER is above 50 %; without labels, one where the systems rank in opposite orders."""
    names = (comparison.name_a, comparison.name_b)
    if comparison.error_rates is not None:
        rates = dict(zip(names, comparison.error_rates.eer_percent, strict=True))
        return [hint for name, rate in rates.items() for hint in _inverted(name, rate)]
    if comparison.spearman is None or comparison.spearman >= _OPPOSITE:
        return []
    return [f"{' and '.join(names)} rank the trials in opposite orders: are the scores of one inverted?"]


def _inverted(name: str, eer_percent: float) -> list[str]:
    if eer_percent <= 50:
        return []
    return [
        f"{printable(name)}: an EER of {eer_percent:.3f} %, above 50 %: these scores look inverted. Here higher = more "
        "bona fide; negate the scores if theirs is the opposite."
    ]
