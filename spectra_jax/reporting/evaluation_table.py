"""An evaluation as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from spectra_jax.evaluation.evaluate import Evaluation, Group
from spectra_jax.evaluation.metrics import Interval
from spectra_jax.messages import count, printable
from spectra_jax.reporting.console import Column, number, print_table

# Attributes of an evaluation: their names in the table, and units.
_ROWS = {
    "eer_percent": ("EER", "%"),
    "threshold": ("threshold of the EER", ""),
    "rocch_eer_percent": ("EER of the ROC's convex hull", "%"),
    "auc": ("AUC", ""),
    "min_dcf": ("minDCF", ""),
    "act_dcf": ("actDCF, scores as log-likelihood ratios", ""),
    "cllr": ("Cllr, scores as log-likelihood ratios", "bits"),
    "min_cllr": ("minCllr", "bits"),
}


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print the figures, those of each group, and notes on how they were computed."""
    with_intervals = evaluation.resampling.resamples > 0
    columns = [Column("", "text"), Column(evaluation.name, "number")]
    columns += [Column("95 % interval", "number")] * with_intervals
    rows = [_row(evaluation, name)[: len(columns)] for name in _ROWS]
    title = f"{evaluation.n_bonafide:,} bona fide and {evaluation.n_spoof:,} spoofed trials"
    print_table(console, columns, rows, title=title)
    for rates in evaluation.thresholds:
        console.print(
            f"At the threshold {rates.threshold:g}, {100 * rates.false_acceptance:.3f} % of the spoofed trials are "
            f"accepted as bona fide, and {100 * rates.false_rejection:.3f} % of the bona fide trials are rejected.",
            highlight=False,
        )
    for column, groups in evaluation.groups.items():
        _print_groups(column, groups, with_intervals, console)
    # As Text, so that rich does not read a column's name as markup.
    console.print(Text(_notes(evaluation)), highlight=False)


def _row(evaluation: Evaluation, name: str) -> list[str]:
    shown, unit = _ROWS[name]
    if name == "threshold":
        return [shown, number(evaluation.threshold, 6), ""]
    return [shown, _value(getattr(evaluation, name), unit), _range(evaluation.intervals.get(name), unit)]


def _notes(evaluation: Evaluation) -> str:
    costs, resampling = evaluation.costs, evaluation.resampling
    notes = [
        f"DCF: prior of a spoof {costs.spoof_prior:g}, cost of a miss {costs.miss:g}, of a false alarm "
        f"{costs.false_alarm:g}."
    ]
    if resampling.resamples:
        unit = f"groups by {printable(resampling.cluster)}" if resampling.cluster else "trials"
        notes.append(f"Intervals: {resampling.resamples:,} resamples of {unit}, seed {resampling.seed}.")
    if not evaluation.exact:
        notes.append("Scores are rounded to six decimals, as in the Arena's files.")
    if evaluation.n_skipped:
        notes.append(f"{count(evaluation.n_skipped, 'trial')} without a score left out.")
    return " ".join(notes)


def _print_groups(column: str, groups: Mapping[str, Group], with_intervals: bool, console: Console) -> None:
    against = {group.against for group in groups.values()}
    several = len(against) > 1
    # What groups are compared against: in the title if it is the same for all, otherwise a column.
    title = f"by {column}" if several or against <= {"its own"} else f"by {column}, each against {next(iter(against))}"
    columns = [
        Column(column, "text"),
        Column("bona fide", "number", optional=2),
        Column("spoof", "number", optional=2),
        *([Column("against", "word", optional=1)] * several),
        Column("EER", "number"),
        *([Column("95 % interval", "number")] * with_intervals),
        Column("wrong at the threshold", "number", optional=3),
    ]
    rows = [
        [
            name,
            f"{group.n_bonafide:,}",
            f"{group.n_spoof:,}",
            *([group.against] * several),
            _value(group.eer_percent, "%"),
            *([_range(group.interval, "%")] * with_intervals),
            _value(100 * group.error_rate_at_threshold, "%"),
        ]
        for name, group in groups.items()
    ]
    print_table(console, columns, rows, title=title)


def _value(value: float, unit: str) -> str:
    return f"{value:.3f} {unit}" if unit == "%" else f"{number(value, 4)} {unit}".rstrip()


def _range(interval: Interval | None, unit: str) -> str:
    if interval is None:
        return "-"
    digits = 3 if unit == "%" else 4
    return f"{number(interval.low, digits)} to {number(interval.high, digits)}"
