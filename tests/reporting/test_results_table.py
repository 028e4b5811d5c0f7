"""The table of results for a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from spectra_jax.data.trial import Trial
from spectra_jax.inference.results import Result
from spectra_jax.reporting.results_table import print_results

SCORED = Result(Trial("real_1", Path("clips/real 1.wav"), "bonafide"), (-2.5, 1.0625009), 4.0375)
SILENT = Result(Trial("silent", Path("clips/silent.wav")), (0.1, -1 / 3), 0.5, ("silent", "short"))
SKIPPED = Result(Trial("cut", Path("clips/cut.wav"), "spoof"), None, None, (), 'clips/cut.wav: cut short, "so it is"')
RESULTS = [SCORED, SKIPPED, SILENT]


def printed(results: list[Result], width: int = 100) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width)
    print_results(results, console)
    return file.getvalue()


def test_the_table_states_what_a_score_means_and_what_was_skipped() -> None:
    text = printed(RESULTS)
    assert "2 scored, 1 skipped. Higher = more bona fide (human). No threshold is applied." in " ".join(text.split())
    lines = [line for line in text.splitlines() if "│" in line]
    assert [next(name for name in ("real_1", "cut", "silent") if name in line) for line in lines] == [
        "real_1",
        "cut",
        "silent",
    ]
    assert "1.0625" in lines[0]
    assert "4.04" in lines[0]
    assert "bonafide" in lines[0]
    assert "skipped: clips/cut.wav: cut short" in lines[1]
    assert "-0.3333" in lines[2]
    assert "silent, short" in lines[2]


def test_the_table_has_labels_only_where_there_are_any_and_counts_no_skips_without_any() -> None:
    assert "label" in printed([SCORED])
    assert "label" not in printed([SILENT])
    assert "skipped" not in printed([SCORED, SILENT])


def test_brackets_in_a_name_are_not_markup_and_long_names_are_not_cut() -> None:
    result = Result(Trial("[red]take[1]" + "x" * 200, Path("a.wav")), (0.0, -12.3456))
    text = printed([result], width=60)
    assert "[red]take[1]" in text
    assert text.count("x") == 200
    assert "-12.3456" in text


@pytest.mark.parametrize("name", ["line\nbreak", "\x1b"])
def test_control_characters_in_a_name_are_escaped(name: str) -> None:
    assert name not in printed([Result(Trial(name, Path("a.wav")), (0.0, 1.0))])


def test_diagnostics_and_probabilities_are_shown_where_there_are_any() -> None:
    plain = printed([SCORED])
    assert "rank gap" not in plain and "P(spoof)" not in plain
    result = Result(SCORED.trial, SCORED.logits, rank_gap=1.5e-6, rank_gap_pool="pool_s", spoof_probability=0.25)
    text = printed([result, SILENT])
    for expected in ("rank gap", "1.5e-06", "pool_s", "P(spoof)", "0.250"):
        assert expected in text
