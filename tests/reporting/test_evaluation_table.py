"""An evaluation on a terminal: its figures, its groups, its notes, and names of any length or content."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.evaluation.evaluate import Evaluation, evaluate
from spectra_jax.reporting.console import SafeConsole
from spectra_jax.reporting.evaluation_table import print_evaluation
from tests.reporting.conftest import LONG_ATTACKS, check_escaped, check_nothing_truncated


def printed(evaluation: Evaluation, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_evaluation(evaluation, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_nothing_is_truncated_on_a_narrow_terminal(width: int, long_names: tuple[Scores, Scores, Labels]) -> None:
    scores, _, labels = long_names
    shown = printed(evaluate(scores, labels, by=["attack"], resamples=20), width)
    check_nothing_truncated(shown, width, [*LONG_ATTACKS, "95 % interval"])


def test_figures_intervals_and_notes(long_names: tuple[Scores, Scores, Labels]) -> None:
    scores, _, labels = long_names
    found = evaluate(scores, labels, by=["attack"], cluster="attack", thresholds=[0.5], resamples=20, seed=7)
    shown = printed(found)
    interval = found.intervals["eer_percent"]
    assert f"{found.eer_percent:.3f} %" in shown and f"{interval.low:.3f} to {interval.high:.3f}" in shown
    assert f"{found.threshold:.6f}" in shown and f"{found.cllr:.4f} bits" in shown
    rates = found.thresholds[0]
    assert f"At the threshold 0.5, {100 * rates.false_acceptance:.3f} % of the spoofed trials" in shown
    # An attack has no bona fide trials of its own, and so no column of zeros.
    assert "by attack, each against all bona fide" in shown and not re.search(r"bona fide +┃ +spoof", shown)
    assert "20 resamples of groups by attack, seed 7" in shown
    assert f"{100 * found.groups['attack']['A07'].error_rate_at_threshold:.3f} %" in shown
    assert "rounded to six decimals" in shown and "without a score" not in shown


def test_without_intervals_and_rounding(long_names: tuple[Scores, Scores, Labels]) -> None:
    scores, _, labels = long_names
    skipped = Scores("s", scores.utterance_ids[1:], scores.scores[1:], skipped={scores.utterance_ids[0]: "silence"})
    shown = printed(evaluate(skipped, labels, exact=True, resamples=0))
    assert "interval" not in shown.lower() and "rounded" not in shown
    assert "1 trial without a score left out." in shown


def test_groups_of_different_opponents_have_a_column_for_them() -> None:
    ids = np.array([f"t{index}" for index in range(8)], object)
    codec = np.array(["a", "a", "b", "b", "a", "a", "c", "c"], object)
    labels = Labels("l", ids, np.arange(8) < 4, {"codec": codec})
    shown = printed(evaluate(Scores("s", ids, -np.arange(8.0)), labels, by=["codec"], resamples=0))
    for opponents in ("its own", "all spoof", "all bona fide"):
        assert opponents in shown
    assert "each against" not in shown and re.search(r"bona fide +┃ +spoof", shown)


def test_names_are_neither_markup_nor_commands_to_a_terminal(hostile: tuple[SafeConsole, str]) -> None:
    console, name = hostile
    ids = np.array([name, "b"], object)
    labels = Labels(name, ids, np.array([True, False]), {name: ids})
    print_evaluation(evaluate(Scores(name, ids, np.array([0.0, 1.0])), labels, by=[name], cluster=name), console)
    check_escaped(console)
