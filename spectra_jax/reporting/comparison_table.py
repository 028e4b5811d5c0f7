"""A comparison as tables on a terminal, and every trial of it as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from spectra_jax.data.score_files import RANK_GAP
from spectra_jax.evaluation.compare import WORST, Comparison, PairedErrorRates, TrialDifference
from spectra_jax.evaluation.metrics import Interval
from spectra_jax.files.outputs import output_file
from spectra_jax.messages import count, printable
from spectra_jax.reporting.console import Column, number, print_table


def print_comparison(comparison: Comparison, console: Console, worst: int = WORST) -> None:
    """Print the comparison, in which the systems are A and B, and its verdict.

    Args:
      comparison: to print.
      console: to print on.
      worst: the number of trials to list.
    """
    for letter, name in (("A", comparison.name_a), ("B", comparison.name_b)):
        console.print(Text(f"{letter}: {printable(name)}", overflow="fold"), highlight=False)
    rows = _difference_rows(comparison)
    if comparison.error_rates is not None:
        rows += _error_rate_rows(comparison.error_rates)
    columns = [Column("", "text"), Column("", "number")]
    title = f"A minus B, {count(len(comparison.utterance_ids), 'trial')}"
    print_table(console, columns, rows, title=title, header=False)
    if trials := comparison.worst[:worst]:
        _print_trials(trials, console)
    for line in (*comparison.near_tie_notes, comparison.verdict):
        console.print(Text(printable(line)), highlight=False)


def _difference_rows(comparison: Comparison) -> list[tuple[str, str]]:
    rows = [("largest |difference|", f"{comparison.max_difference:.3g}")]
    if comparison.max_difference_without_near_ties is not None and comparison.n_near_ties:
        rows.append(("  without near ties", f"{comparison.max_difference_without_near_ties:.3g}"))
    rows.append(("mean |difference|", f"{comparison.mean_difference:.3g}"))
    rows += [
        (f"  {100 * float(quantile):g} % are at most", f"{value:.3g}")
        for quantile, value in comparison.quantiles.items()
    ]
    rows.append(("mean difference", f"{comparison.bias:+.3g}"))
    for name, correlation in (("Pearson", comparison.pearson), ("Spearman", comparison.spearman)):
        rows.append((name, "-" if correlation is None else f"{correlation:.6f}"))
    if comparison.n_with_gap:
        rows.append((f"near ties: rank gap below {comparison.gap_bound:.2g}", f"{comparison.n_near_ties:,}"))
    return [
        *rows,
        (f"beyond {comparison.tolerance:g}", f"{comparison.n_beyond_tolerance:,}"),
        ("  explained by a near tie", f"{comparison.n_explained:,}"),
        ("  unexplained", f"{comparison.n_unexplained:,}"),
    ]


def _error_rate_rows(rates: PairedErrorRates) -> list[tuple[str, str]]:
    found = rates.intervals
    intervals = (None, None, None) if found is None else (found.eer_a, found.eer_b, found.difference)
    return [
        ("EER of A", _eer(rates.eer_percent[0], intervals[0])),
        ("EER of B", _eer(rates.eer_percent[1], intervals[1])),
        ("EER of A minus EER of B, paired", _eer(rates.eer_difference_percent, intervals[2])),
        (f"decisions that flip at {number(rates.threshold, 6)}", f"{len(rates.flips):,}"),
    ]


def _print_trials(trials: Sequence[TrialDifference], console: Console) -> None:
    columns = [
        Column("id", "text"),
        *(Column(name, "number", optional=2) for name in ("A", "B")),
        Column("difference", "number"),
        Column("rank gap", "number", optional=3),
        Column("pool", "text", optional=1),
        Column(""),
    ]
    rows = [
        (
            trial.utterance_id,
            number(trial.a, 6),
            number(trial.b, 6),
            f"{trial.difference:+.2g}",
            "-" if trial.smallest_rank_gap is None else f"{trial.smallest_rank_gap:.2g}",
            trial.rank_gap_pool or "",
            "unexplained" if trial.unexplained else "",
        )
        for trial in trials
    ]
    kept = [index for index in range(len(columns)) if index < 4 or any(row[index] not in ("", "-") for row in rows)]
    shown = [[row[index] for index in kept] for row in rows]
    title = "The largest differences, unexplained ones first"
    print_table(console, [columns[index] for index in kept], shown, title=title)


def _eer(value: float, interval: Interval | None) -> str:
    return f"{value:.3f} %" + (f" ({interval.low:.3f} to {interval.high:.3f})" if interval else "")


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write a row for each trial, atomically: both scores, difference, rank gap, and whether a near tie explains it."""
    with output_file(path) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
        rows = csv.writer(file)
        rows.writerow(("utterance_id", "a", "b", "difference", RANK_GAP, "verdict"))
        verdicts = np.select([comparison.explained, comparison.unexplained], ["near tie", "unexplained"], "")
        columns = (comparison.scores_a, comparison.scores_b, comparison.differences, comparison.rank_gaps)
        for name, a, b, difference, gap, verdict in zip(comparison.utterance_ids, *columns, verdicts, strict=True):
            known = float(gap) if np.isfinite(gap) else None
            rows.writerow((name, float(a), float(b), float(difference), known, verdict))
        file.flush()
        file.detach()
