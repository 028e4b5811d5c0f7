"""An evaluation as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from spectra_jax.evaluation.evaluate import CrossTable, Evaluation, Group
from spectra_jax.evaluation.metrics import Interval
from spectra_jax.evaluation.spoof_only import AcceptedSpoofs, SpoofOnlyEvaluation
from spectra_jax.evaluation.tandem import TandemEvaluation
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
    for names, table in evaluation.cross_tables.items():
        _print_cross_table(names, table, console)
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
    if evaluation.convention == "asvspoof":
        notes.append("EERs by the convention of ASVspoof, of scores as they are.")
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
    # A group of spoofs that is compared with the bona fide trials of all has none of its own.
    has_bonafide = any(group.n_bonafide for group in groups.values())
    has_spoofs = any(group.n_spoof for group in groups.values())
    columns = [
        Column(column, "text"),
        *([Column("bona fide", "number", optional=2)] * has_bonafide),
        *([Column("spoof", "number", optional=2)] * has_spoofs),
        *([Column("against", "word", optional=1)] * several),
        Column("EER", "number"),
        *([Column("95 % interval", "number")] * with_intervals),
        Column("wrong at the threshold", "number", optional=3),
    ]
    rows = [
        [
            name,
            *([f"{group.n_bonafide:,}"] * has_bonafide),
            *([f"{group.n_spoof:,}"] * has_spoofs),
            *([group.against] * several),
            _value(group.eer_percent, "%"),
            *([_range(group.interval, "%")] * with_intervals),
            _value(100 * group.error_rate_at_threshold, "%"),
        ]
        for name, group in groups.items()
    ]
    print_table(console, columns, rows, title=title)


def _print_cross_table(names: str, table: CrossTable, console: Console) -> None:
    row_name, _, column_name = names.partition(",")
    columns = [Column(row_name, "text"), *(Column(value, "number") for value in table.columns), Column("all", "number")]
    rows = [
        [row, *(_eer(table.cells.get(column, {}).get(row)) for column in table.columns), _eer(pooled)]
        for row, pooled in table.rows.items()
    ]
    rows.append(["all", *map(_eer, table.columns.values()), ""])
    print_table(console, columns, rows, title=f"EER in % by {row_name} and {column_name}")


def _eer(group: Group | None) -> str:
    return "-" if group is None else f"{group.eer_percent:.3f}"


def print_tandem(tandem: TandemEvaluation, console: Console) -> None:
    """Print the figures of a countermeasure with ASV."""
    rates = tandem.asv
    rows = [
        ["min t-DCF, 2019", f"{tandem.min_tdcf_2019:.4f}"],
        ["min t-DCF, 2021 and 5", f"{tandem.min_tdcf_2021:.4f}"],
        ["t-EER, concurrent", _value(tandem.t_eer_percent, "%")],
        [f"a-DCF of {tandem.a_dcf_is_of}", f"{tandem.a_dcf:.4f}"],
        ["ASV: targets missed", _value(100 * rates.miss, "%")],
        ["ASV: other speakers accepted", _value(100 * rates.false_alarm, "%")],
        ["ASV: spoofs accepted", _value(100 * rates.spoof_false_alarm, "%")],
    ]
    columns = [Column("", "text"), Column(tandem.asv_name, "number")]
    print_table(console, columns, rows, title="in tandem with speaker verification (ASV)")


def print_spoof_only(evaluation: SpoofOnlyEvaluation, console: Console) -> None:
    """Print how many spoofs a threshold accepts, overall and in each group."""
    with_intervals = evaluation.resamples > 0
    rows = [["all", *_accepted(evaluation, with_intervals)]]
    for column, groups in evaluation.groups.items():
        rows += [[f"{column} {value}", *_accepted(group, with_intervals)] for value, group in groups.items()]
    columns = [Column("", "text"), Column("spoof", "number"), Column("1 - SRR", "number")]
    columns += [Column("95 % interval", "number")] * with_intervals
    title = f"{evaluation.name}: spoofs accepted at the threshold {evaluation.threshold:g}"
    print_table(console, columns, rows, title=title)
    notes = ["1 - SRR is one minus the spoof rejection rate, the Arena's srr_complement."]
    if with_intervals:
        notes.append(f"Intervals: {evaluation.resamples:,} resamples of trials, seed {evaluation.seed}.")
    if evaluation.n_skipped:
        notes.append(f"{count(evaluation.n_skipped, 'trial')} without a score left out.")
    console.print(Text(" ".join(notes)), highlight=False)


def _accepted(group: AcceptedSpoofs, with_intervals: bool) -> list[str]:
    cells = [f"{group.n_spoof:,}", _value(group.srr_complement, "%")]
    return [*cells, _range(group.interval, "%")] if with_intervals else cells


def _value(value: float, unit: str) -> str:
    return f"{value:.3f} {unit}" if unit == "%" else f"{number(value, 4)} {unit}".rstrip()


def _range(interval: Interval | None, unit: str) -> str:
    if interval is None:
        return "-"
    digits = 3 if unit == "%" else 4
    return f"{number(interval.low, digits)} to {number(interval.high, digits)}"
