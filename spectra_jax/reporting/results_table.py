"""Results as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from spectra_jax.inference.results import Result
from spectra_jax.reporting.console import Column, print_table

# Optional columns are left out on a narrow terminal, the least important first.
_COLUMNS = (
    Column("id", "text"),
    Column("score", "number"),
    Column("seconds", "number", optional=1),
    Column("rank gap", "number", optional=3),
    Column("pool", "text", optional=2),
    Column("P(spoof)", "number"),
    Column("label"),
    Column("notes", "text"),
)
# The columns that are shown even where they are empty.
_ALWAYS = ("id", "score", "seconds")


def print_results(results: Iterable[Result], console: Console) -> None:
    """Print results in their order: id, score and length, and rank gap, P(spoof), label and notes where there are any.

    Ids and numbers are never cut; see `spectra_jax.reporting.console`.
    """
    results = list(results)
    rows = [_cells(result) for result in results]
    shown = [
        index for index, column in enumerate(_COLUMNS) if column.name in _ALWAYS or any(row[index] for row in rows)
    ]
    print_table(console, [_COLUMNS[index] for index in shown], [[row[index] for index in shown] for row in rows])
    scored = sum(result.score is not None for result in results)
    skipped = f", {len(results) - scored:,} skipped" if scored < len(results) else ""
    console.print(f"{scored:,} scored{skipped}. Higher = more bona fide (human). No threshold is applied.")


def _cells(result: Result) -> tuple[str, ...]:
    return (
        result.trial.utterance_id,
        "-" if result.score is None else f"{result.score:.4f}",
        "-" if result.seconds is None else f"{result.seconds:.2f}",
        "" if result.rank_gap is None else f"{result.rank_gap:.2g}",
        result.rank_gap_pool or "",
        "" if result.spoof_probability is None else f"{result.spoof_probability:.3f}",
        result.trial.label or "",
        f"skipped: {result.error}" if result.error else ", ".join(result.flags),
    )
