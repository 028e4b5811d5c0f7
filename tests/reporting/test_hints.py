"""Hints about inverted scores: given where they are needed, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.evaluation.compare import compare
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.reporting.hints import comparison_hints, evaluation_hints

IDS = np.array([f"t{index}" for index in range(20)], object)
BONAFIDE = np.arange(20) < 8
LABELS = Labels("key", IDS, BONAFIDE)
GOOD = Scores("good", IDS, np.random.default_rng(0).normal(2.0 * BONAFIDE, 0.5))
INVERTED = Scores("inverted", IDS, -GOOD.scores)


def test_an_eer_above_one_half() -> None:
    assert evaluation_hints(evaluate(GOOD, LABELS, resamples=0)) == []
    (hint,) = evaluation_hints(evaluate(INVERTED, LABELS, resamples=0))
    assert hint.startswith("inverted: an EER of ") and "above 50 %: these scores look inverted" in hint


def test_of_two_systems_the_inverted_one_is_named() -> None:
    (hint,) = comparison_hints(compare(GOOD, INVERTED, LABELS, resamples=0))
    assert hint.startswith("inverted: an EER of ")
    assert comparison_hints(compare(GOOD, GOOD, LABELS, resamples=0)) == []


@pytest.mark.parametrize(
    ("scores", "hints"),
    [
        (INVERTED.scores, ["good and other rank the trials in opposite orders: are the scores of one inverted?"]),
        (GOOD.scores + 1, []),
        (np.zeros(20), []),
    ],
)
def test_without_labels_the_orders_are_compared(scores: np.ndarray, hints: list[str]) -> None:
    assert comparison_hints(compare(GOOD, Scores("other", IDS, scores))) == hints
