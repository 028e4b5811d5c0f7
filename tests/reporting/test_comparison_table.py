"""A comparison on a terminal and as a CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.evaluation.compare import Comparison, compare
from spectra_jax.reporting.comparison_table import print_comparison, write_comparison
from spectra_jax.reporting.console import SafeConsole
from tests.reporting.conftest import check_escaped, check_nothing_truncated

IDS = np.array(["x", "y", "z", "w"], object)
ONE = Scores("one", IDS, np.array([0.0, 1.0, 2.0, 3.0]), {"smallest_rank_gap": np.array([1e-3, 1e-6, 1e-3, np.nan])})
OTHER = Scores("other", IDS, np.array([0.0, 1.5, 2.25, 3.0]))


def printed(comparison: Comparison, width: int = 200, **options: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_comparison(comparison, console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_nothing_is_truncated_on_a_narrow_terminal(width: int, long_names: tuple[Scores, Scores, Labels]) -> None:
    one, other, labels = long_names
    found = compare(one, other, labels, resamples=20)
    texts = [*(trial.utterance_id for trial in found.worst), one.name, other.name]
    check_nothing_truncated(printed(found, width), width, texts)


def test_statistics_trials_and_the_verdict() -> None:
    shown = printed(compare(ONE, OTHER))
    assert "A: one" in shown and "B: other" in shown and "A minus B, 4 trials" in shown
    for name, value in (("largest |difference|", "0.5"), ("without near ties", "0.25"), ("unexplained", "1")):
        assert any(name in line and f" {value} " in line for line in shown.splitlines()), name
    lines = [line for line in shown.splitlines() if line.startswith(("│ y", "│ z"))]
    assert len(lines) == 2 and "unexplained" in lines[0] and "-0.25" in lines[0] and "1e-06" in lines[1]
    assert shown.splitlines()[-1].startswith("Different: 1 of 4 trials differ by more than 0.0001")
    assert "EER" not in shown, "without labels"


def test_as_many_trials_as_asked_for() -> None:
    assert "│ y" not in printed(compare(ONE, OTHER), worst=1) and "largest diff" not in printed(compare(ONE, ONE))


def test_error_rates_of_labelled_trials(long_names: tuple[Scores, Scores, Labels]) -> None:
    one, other, labels = long_names
    found = compare(one, other, labels, resamples=20)
    assert found.error_rates is not None and found.error_rates.intervals is not None
    interval = found.error_rates.intervals.difference
    shown = printed(found)
    assert f"{found.error_rates.eer_percent[1]:.3f} % (" in shown
    assert f"{found.error_rates.eer_difference_percent:.3f} % ({interval.low:.3f} to {interval.high:.3f})" in shown
    without = printed(compare(one, other, labels, resamples=0))
    assert f"{found.error_rates.eer_percent[1]:.3f} % " in without and " to " not in without


def test_names_are_neither_markup_nor_commands_to_a_terminal(hostile: tuple[SafeConsole, str]) -> None:
    console, name = hostile
    ids = np.array([name, "b"], object)
    print_comparison(compare(Scores(name, ids, np.zeros(2)), Scores("b", ids, np.array([0.5, 1.0]))), console)
    check_escaped(console)


def test_the_csv_has_every_trial_and_its_explanation(tmp_path: Path) -> None:
    write_comparison(compare(ONE, OTHER), tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["utterance_id"] for row in rows] == list(IDS)
    assert [float(row["difference"]) for row in rows] == list(ONE.scores - OTHER.scores)
    assert [row["verdict"] for row in rows] == ["", "near tie", "unexplained", ""]
    assert [row["smallest_rank_gap"] for row in rows] == ["0.001", "1e-06", "0.001", ""]
