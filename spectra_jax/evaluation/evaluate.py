"""How good a system's scores are: joined with labels, every figure with its interval.

    evaluation = evaluate(read_scores("scores.txt"), read_labels("labels.parquet"))
    evaluation.numbers["eer_percent"]

The EER is the Speech Anti-Spoofing Arena's, computed from scores rounded to six decimals as its score files have them;
`exact=True` takes them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from spectra_jax.data.conventions import NOTHING
from spectra_jax.data.labels import Labels, labels_of, subset_counts
from spectra_jax.data.score_files import Scores
from spectra_jax.data.tables import stem
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.metrics import ASVSPOOF5, Costs, Interval
from spectra_jax.messages import count, examples, printable
from spectra_jax.reporting.console import Column, number, print_table

# Rates that people read in percent, and their names there.
_PERCENT = {"eer": "eer_percent", "rocch_eer": "rocch_eer_percent"}
# What a group of one class is evaluated against.
_ALL_BONAFIDE, _ALL_SPOOF = "all bona fide", "all spoof"
STATISTICS = ("eer", "rocch_eer", "auc", "min_dcf", "act_dcf", "cllr", "min_cllr")


@dataclass(frozen=True)
class Evaluation:
    """A system's labelled trials and the figures they give.

    Attributes:
      name: of the system.
      utterance_ids: (n,) strings.
      scores: (n,) float64, rounded to six decimals unless asked otherwise.
      bonafide: (n,) bool.
      columns: (n,) arrays by name: those of the labels, and of the score file where the labels have none of that name.
      numbers: plain values for JSON: `eer_percent` with `eer_percent_interval` [low, high], `threshold`, ...
    """

    name: str
    utterance_ids: np.ndarray
    scores: np.ndarray
    bonafide: np.ndarray
    columns: Mapping[str, np.ndarray]
    numbers: Mapping[str, Any]


# Figures of scores near the limits of float64 may be infinite or NaN, and are given as such.
@np.errstate(over="ignore", invalid="ignore")
def evaluate(
    scores: Scores,
    labels: Labels | None = None,
    *,
    exact: bool = False,
    common: bool = False,
    by: Sequence[str] = (),
    cluster: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    costs: Costs = ASVSPOOF5,
    thresholds: Sequence[float] = (),
) -> Evaluation:
    """Evaluate scores.

    Args:
      scores: of the system.
      labels: of its trials; the score file's own column `label` otherwise.
      exact: take scores as they are, not rounded to six decimals.
      common: evaluate the trials that have both a score and a label; otherwise a trial with one alone is an error.
        A skipped trial is none.
      by: columns to evaluate group by group: a group of one class against all trials of the other.
      cluster: a column, such as `speaker`, whose groups the intervals draw as wholes.
      resamples: of the bootstrap; 0 for no intervals.
      seed: of the bootstrap.
      costs: of the detection cost functions.
      thresholds: give error rates where scores at or above each are taken for bona fide.

    Raises:
      InputError: ids that do not match, an unknown column: with counts and examples.
      MetricError: no bona fide or no spoofed trial.
    """
    labels = labels_of(scores) if labels is None else labels
    rows, places = _joined(scores, labels, common)
    values = scores.scores[rows] if exact else six_decimals(scores.scores[rows])
    bonafide = labels.bonafide[places]
    require_both_classes(labels.name, bonafide)
    columns = {name: column[rows] for name, column in scores.columns.items()}
    columns |= {name: column[places] for name, column in labels.columns.items()}
    for name in (*by, *([cluster] if cluster else ())):
        if name not in columns:
            raise InputError(f"no column {name!r} in {scores.name} or {labels.name}: {', '.join(columns) or 'none'}")
    drawn = {
        "resamples": resamples,
        "seed": seed,
        "clusters": None if cluster is None else columns[cluster],
    }
    numbers = _figures(values, bonafide, costs, drawn)
    numbers |= {
        "scores": scores.name,
        "labels": labels.name,
        "rounded_to_six_decimals": not exact,
        "n_bonafide": int(bonafide.sum()),
        "n_spoof": int((~bonafide).sum()),
        "n_skipped": len(scores.skipped),
        "costs": {"spoof_prior": costs.spoof_prior, "miss": costs.miss, "false_alarm": costs.false_alarm},
        "resamples": resamples,
        "seed": seed,
        "confidence": 0.95,
        "cluster": cluster,
        "subsets": subset_counts(columns),
    }
    if thresholds:
        rates = metrics.error_rates(values[bonafide], values[~bonafide], np.asarray(thresholds, np.float64))
        numbers["thresholds"] = [
            {"threshold": float(at), "false_acceptance": float(far), "false_rejection": float(frr)}
            for at, far, frr in zip(rates.thresholds, rates.false_acceptance, rates.false_rejection, strict=True)
        ]
    if by:
        at = numbers["threshold"]
        numbers["groups"] = {name: _groups(values, bonafide, columns[name], drawn, at) for name in by}
    return Evaluation(scores.name, scores.utterance_ids[rows], values, bonafide, columns, numbers)


def six_decimals(scores: np.ndarray) -> np.ndarray:
    """Scores as the Arena's score file holds them. Through text, since multiplying rounds some of them otherwise."""
    return np.array([f"{score:.6f}" for score in scores]).astype(np.float64)


def _joined(scores: Scores, labels: Labels, common: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the scores and of the labels that belong together, in the scores' order."""
    place = dict(zip(labels.utterance_ids, range(len(labels.utterance_ids)), strict=True))
    found = np.array([place.get(identity, -1) for identity in scores.utterance_ids])
    rows = np.flatnonzero(found >= 0)
    if not common:
        known = {*scores.utterance_ids, *scores.skipped}
        without_label = [str(scores.utterance_ids[row]) for row in np.flatnonzero(found < 0)]
        without_score = [str(identity) for identity in labels.utterance_ids if identity not in known]
        if without_label or without_score:
            raise InputError(
                _unmatched(scores.name, without_label, labels.name, "label")
                + _unmatched(labels.name, without_score, scores.name, "score")
                + (
                    mismatch_hint([*without_label], [*without_score])
                    or "Give the files that belong together, or take the trials that both have with --common."
                )
            )
    if not len(rows):
        raise InputError(no_trial_in_common(scores, labels))
    return rows, found[rows]


def no_trial_in_common(one: Scores, other: Scores | Labels) -> str:
    """The message about two files none of whose ids are the same."""
    if not len(one.utterance_ids) or not len(other.utterance_ids):
        empty = one if not len(one.utterance_ids) else other
        return f"{empty.name} has no trials left, so it has none in common with {(other if empty is one else one).name}"
    first, second = str(one.utterance_ids[0]), str(other.utterance_ids[0])
    hint = mismatch_hint(list(one.utterance_ids), list(other.utterance_ids))
    return f"{one.name} and {other.name} have no trial in common: {first!r} in one, {second!r} in the other" + (
        f"\n{hint}" if hint else ""
    )


def require_both_classes(name: str, bonafide: np.ndarray) -> None:
    """See that there are trials of both classes.

    Raises:
      MetricError: there are not; `name` is what the message calls the labels.
    """
    if bonafide.all() or not bonafide.any():
        only, other = ("bona fide", "spoofed") if bonafide.all() else ("spoofed", "bona fide")
        raise metrics.MetricError(
            f"{name}: {count(len(bonafide), 'trial')}, all {only}; error rates need {other} trials too"
        )


def mismatch_hint(one: Sequence[str], other: Sequence[str]) -> str:
    """What to do about ids that differ by folder or extension only; empty where most differ by more."""
    stems = {stem(identity): str(identity) for identity in other}
    pairs = [(str(identity), stems[stem(identity)]) for identity in one if stem(identity) in stems]
    if 2 * len(pairs) <= max(1, min(len(one), len(other))):
        return ""
    folders = any(re.split(r"[\\/]", a)[:-1] != re.split(r"[\\/]", b)[:-1] for a, b in pairs)
    ends = sorted(
        {_extension(identity) for pair in pairs if _extension(pair[0]) != _extension(pair[1]) for identity in pair}
        - {""}
    )
    parts = ["the folder"] * folders + [f"the extension {', '.join(ends)}"] * bool(ends)
    return (
        f"{count(len(pairs), 'trial')} would match: their ids differ by {' and '.join(parts)} only. "
        "--match stem compares ids without folder and extension."
    )


def _extension(identity: str) -> str:
    name = re.split(r"[\\/]", identity)[-1]
    return name.removeprefix(stem(identity))


def hints(evaluation: Evaluation) -> list[str]:
    """What a user should know about the figures: scores that look inverted."""
    return inverted(evaluation.name, evaluation.numbers["eer_percent"])


def inverted(name: str, eer_percent: float) -> list[str]:
    """The hint that scores look inverted, where their EER is above 50 %."""
    if eer_percent <= 50:
        return []
    return [
        f"{printable(name)}: an EER of {eer_percent:.3f} %, above 50 %: these scores look inverted. Here higher = more "
        "bona fide; negate the scores if theirs is the opposite."
    ]


def _unmatched(one: str, ids: Sequence[str], other: str, what: str) -> str:
    return f"{count(len(ids), 'trial')} of {one} without a {what} in {other}:{examples(ids)}\n" if ids else ""


def _figures(scores: np.ndarray, bonafide: np.ndarray, costs: Costs, drawn: Mapping[str, Any]) -> dict[str, Any]:
    people, machines = scores[bonafide], scores[~bonafide]
    equal, hull = metrics.eer(people, machines), metrics.rocch_eer(people, machines)
    numbers: dict[str, Any] = {
        "eer_percent": 100 * equal.rate,
        "threshold": equal.threshold,
        "rocch_eer_percent": 100 * hull.rate,
        "rocch_threshold": hull.threshold,
        "auc": metrics.auc(people, machines),
        "min_dcf": metrics.min_dcf(people, machines, costs),
        "act_dcf": metrics.act_dcf(people, machines, costs),
        "cllr": metrics.cllr(people, machines),
        "min_cllr": metrics.min_cllr(people, machines),
    }
    if drawn["resamples"]:
        found = metrics.bootstrap(scores, bonafide, STATISTICS, costs=costs, **drawn)
        numbers |= dict(interval_of(name, interval) for name, interval in found.items())
    return numbers


def interval_of(name: str, interval: Interval) -> tuple[str, list[float]]:
    """The JSON's name and value of a statistic's interval."""
    scale = 100 if name in _PERCENT else 1
    return f"{_PERCENT.get(name, name)}_interval", [scale * interval.low, scale * interval.high]


def _groups(
    scores: np.ndarray, bonafide: np.ndarray, column: np.ndarray, drawn: Mapping[str, Any], threshold: float
) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    names = np.array([str(value) for value in column], object)
    for name in sorted(set(names) - NOTHING - {"nan"}):
        members = names == name
        classes = {bool(value) for value in np.unique(bonafide[members])}
        # A group of one class, such as an attack, is told apart from everything of the other.
        taken = members if len(classes) == 2 else members | (bonafide != classes.copy().pop())
        people, machines = scores[taken & bonafide], scores[taken & ~bonafide]
        row: dict[str, Any] = {
            "n_bonafide": int((members & bonafide).sum()),
            "n_spoof": int((members & ~bonafide).sum()),
            "against": {2: "its own", 1: _ALL_BONAFIDE if False in classes else _ALL_SPOOF}[len(classes)],
        }
        if len(people) and len(machines):
            row["eer_percent"] = 100 * metrics.eer(people, machines).rate
            if drawn["resamples"]:
                clusters = drawn["clusters"]
                within = {**drawn, "clusters": None if clusters is None else clusters[taken]}
                found = metrics.bootstrap(scores[taken], bonafide[taken], ("eer",), **within)
                row |= dict(interval_of(statistic, interval) for statistic, interval in found.items())
        wrong = (scores[members] >= threshold) != bonafide[members]
        row["error_rate_at_threshold"] = float(wrong.mean())
        groups[name] = row
    return groups


_SHOWN = {
    "eer_percent": ("EER", "%"),
    "rocch_eer_percent": ("EER of the ROC's convex hull", "%"),
    "auc": ("AUC", ""),
    "min_dcf": ("minDCF", ""),
    "act_dcf": ("actDCF, scores as log-likelihood ratios", ""),
    "cllr": ("Cllr, scores as log-likelihood ratios", "bits"),
    "min_cllr": ("minCllr", "bits"),
}


def table(evaluation: Evaluation, console: Console) -> None:
    """Print the figures as tables."""
    numbers = evaluation.numbers
    interval = numbers["resamples"] > 0
    columns = [Column("", "text"), Column(str(numbers["scores"]), "number")]
    rows = []
    for name, (shown, unit) in _SHOWN.items():
        rows.append([shown, _value(numbers[name], unit), _range(numbers.get(f"{name}_interval"), unit)])
        if name == "eer_percent":
            rows.append(["threshold of the EER", number(numbers["threshold"], 6), ""])
    if interval:
        columns.append(Column("95 % interval", "number"))
    else:
        rows = [row[:2] for row in rows]
    title = f"{numbers['n_bonafide']:,} bona fide and {numbers['n_spoof']:,} spoofed trials"
    print_table(console, columns, rows, title=title)
    for row in numbers.get("thresholds", ()):
        console.print(
            f"At the threshold {row['threshold']:g}, {100 * row['false_acceptance']:.3f} % of the spoofed trials are "
            f"accepted as bona fide, and {100 * row['false_rejection']:.3f} % of the bona fide trials are rejected.",
            highlight=False,
        )
    for column, groups in numbers.get("groups", {}).items():
        _group_table(column, groups, interval, console)
    costs, notes = numbers["costs"], []
    notes.append(
        f"DCF: prior of a spoof {costs['spoof_prior']:g}, cost of a miss {costs['miss']:g}, of a false alarm "
        f"{costs['false_alarm']:g}."
    )
    if interval:
        drawn = f"whole groups by {printable(numbers['cluster'])}" if numbers["cluster"] else "trials"
        notes.append(f"Intervals: {numbers['resamples']:,} resamples of {drawn}, seed {numbers['seed']}.")
    if numbers["rounded_to_six_decimals"]:
        notes.append("Scores are rounded to six decimals, as in the Arena's files.")
    if numbers["n_skipped"]:
        notes.append(f"{count(numbers['n_skipped'], 'trial')} without a score left out.")
    # As Text: a column's name is no markup.
    console.print(Text(" ".join(notes)), highlight=False)


def _group_table(column: str, groups: Mapping[str, Mapping[str, Any]], interval: bool, console: Console) -> None:
    against = {row["against"] for row in groups.values()}
    # In the title where it is the same for all, such as for attacks.
    title = f"by {column}"
    if against in ({_ALL_BONAFIDE}, {_ALL_SPOOF}):
        title += f", each against {next(iter(against))}"
    columns = [
        Column(column, "text"),
        Column("bona fide", "number", optional=2),
        Column("spoof", "number", optional=2),
        *([Column("against", "word", optional=1)] if len(against) > 1 else []),
        Column("EER", "number"),
        *([Column("95 % interval", "number")] if interval else []),
        Column("wrong at the threshold", "number", optional=3),
    ]
    rows = []
    for name, row in groups.items():
        cells = [name, f"{row['n_bonafide']:,}", f"{row['n_spoof']:,}"]
        cells += [row["against"]] if len(against) > 1 else []
        cells.append(_value(row["eer_percent"], "%") if "eer_percent" in row else "-")
        cells += [_range(row.get("eer_percent_interval"), "%")] if interval else []
        rows.append([*cells, _value(100 * row["error_rate_at_threshold"], "%")])
    print_table(console, columns, rows, title=title)


def _value(value: float, unit: str) -> str:
    return f"{value:.3f} {unit}" if unit == "%" else f"{number(value, 4)} {unit}".rstrip()


def _range(bounds: Sequence[float] | None, unit: str) -> str:
    if bounds is None:
        return "-"
    digits = 3 if unit == "%" else 4
    return f"{number(bounds[0], digits)} to {number(bounds[1], digits)}"
