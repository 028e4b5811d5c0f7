"""Are two systems' scores the same? What differs, what of it the network's own near ties explain, and a verdict.

    comparison = compare(read_scores("jax.csv"), read_scores("torch.txt"))
    comparison.agrees, comparison.verdict

The network ranks graph nodes, and two that nearly tie can swap places under rounding: the score then jumps, in a right
implementation as in a wrong one. A trial whose smallest rank gap is below the precision's bound may differ by any
amount and says nothing; any other that differs by more than the tolerance is a difference of the systems.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from spectra_jax.data.labels import Labels, labels_of, own_label_words, subset_counts
from spectra_jax.data.score_files import RANK_GAP, RANK_GAP_POOL, Scores
from spectra_jax.data.tables import is_number
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import (
    interval_of,
    inverted,
    mismatch_hint,
    no_trial_in_common,
    require_both_classes,
    six_decimals,
)
from spectra_jax.files.outputs import output_file
from spectra_jax.messages import count, examples, printable
from spectra_jax.model.rank_gap import GAP_BOUND
from spectra_jax.reporting.console import Column, number, print_table

_QUANTILES = (0.5, 0.9, 0.99, 0.999)
WORST = 10


@dataclass(frozen=True)
class Comparison:
    """Two systems' scores of the same trials, side by side.

    Attributes:
      numbers: plain values for JSON.
      utterance_ids: (n,) strings, in the order of the first.
      a, b: (n,) float64 scores.
      gaps: (n,) the smaller of the trial's rank gaps in both files, NaN where neither has one.
      explained: (n,) bool: differs by more than the tolerance, and its gap is below the bound.
      unexplained: (n,) bool: differs by more than the tolerance, and no near tie is known that could explain it.
      verdict: in words.
      agrees: whether there is no unexplained difference.
    """

    numbers: Mapping[str, Any]
    utterance_ids: np.ndarray
    a: np.ndarray
    b: np.ndarray
    gaps: np.ndarray
    explained: np.ndarray
    unexplained: np.ndarray
    verdict: str
    agrees: bool


@np.errstate(over="ignore", invalid="ignore")
def compare(
    a: Scores,
    b: Scores,
    labels: Labels | None = None,
    *,
    tolerance: float = 1e-4,
    gap_bound: float = GAP_BOUND,
    common: bool = False,
    cluster: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two systems' scores.

    Args:
      a, b: the systems; the order matters for signs alone, and for the threshold at which decisions are counted.
      labels: of the trials; else those of either file, where all of its trials have one.
      tolerance: the largest |difference| that rounding is taken to explain. 1e-4 is what float32 keeps to where no two
        nodes nearly tie; scores of six decimals differ by up to 1e-6 for that alone.
      gap_bound: below it a rank gap can close under rounding; see `spectra_jax.model.rank_gap`.
      common: compare the trials that both have; otherwise a trial that one alone has is an error.
      cluster: a column of the labels, such as `speaker`, whose groups the intervals draw as wholes.
      resamples: of the bootstrap for intervals of the EERs and of their difference; 0 for none.
      seed: of the bootstrap.

    Raises:
      InputError: ids that do not match, with counts and examples; a negative or NaN tolerance or bound; an unknown
        column, or one without labels.
      MetricError: labels of one class only.
    """
    for name, value in (("tolerance", tolerance), ("gap bound", gap_bound)):
        if not value >= 0:
            raise InputError(f"a {name} of {value}; it must be 0 or more")
    rows_a, rows_b = _joined(a, b, common)
    one, other = a.scores[rows_a], b.scores[rows_b]
    for scores, values in ((a, one), (b, other)):
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise InputError(f"{scores.name}: {count(bad, 'score')} NaN or infinite")
    difference = one - other
    size = np.abs(difference)
    gaps = np.fmin(_gaps(a)[rows_a], _gaps(b)[rows_b])
    far = size > tolerance
    explained = far & (gaps < gap_bound)
    unexplained = far & ~explained
    ids = a.utterance_ids[rows_a]
    numbers: dict[str, Any] = {
        "a": a.name,
        "b": b.name,
        "n": len(ids),
        "n_only_a": len(a) - len(ids),
        "n_only_b": len(b) - len(ids),
        "tolerance": tolerance,
        "gap_bound": gap_bound,
        "max_difference": float(size.max()),
        "mean_difference": float(size.mean()),
        "bias": float(difference.mean()),
        "quantiles": {f"{quantile:g}": float(np.quantile(size, quantile)) for quantile in _QUANTILES},
        **_correlations(one, other),
        "n_beyond_tolerance": int(far.sum()),
        "n_explained": int(explained.sum()),
        "n_unexplained": int(unexplained.sum()),
        "n_with_gap": int(np.isfinite(gaps).sum()),
        "n_near_ties": int((gaps < gap_bound).sum()),
    }
    steady = ~(gaps < gap_bound)
    numbers["max_difference_without_near_ties"] = float(size[steady].max()) if steady.any() else None
    labels = labels or _own_labels(a, b)
    if labels is not None:
        numbers |= _labelled(ids, one, other, labels, cluster, resamples, seed)
    elif cluster is not None:
        raise InputError(f"intervals by {cluster} are of EERs, which need labels: give them with --labels")
    numbers["worst"] = _worst(a, rows_a, b, rows_b, size, gaps, unexplained)
    agrees = not unexplained.any()
    verdict = _verdict(numbers)
    numbers |= {"agrees": agrees, "verdict": verdict}
    return Comparison(numbers, ids, one, other, gaps, explained, unexplained, verdict, agrees)


def _joined(a: Scores, b: Scores, common: bool) -> tuple[np.ndarray, np.ndarray]:
    place = dict(zip(b.utterance_ids, range(len(b)), strict=True))
    found = np.array([place.get(identity, -1) for identity in a.utterance_ids])
    rows = np.flatnonzero(found >= 0)
    if not len(rows):
        raise InputError(no_trial_in_common(a, b))
    if not common and (len(rows) < len(a) or len(rows) < len(b)):
        both = set(a.utterance_ids[rows])
        only_a, only_b = ([i for i in one.utterance_ids if i not in both] for one in (a, b))
        raise InputError(
            "".join(
                f"{count(len(missing), 'trial')} of {one.name} not in {other.name}:{examples(missing)}\n"
                for one, other, ids in ((a, b, only_a), (b, a, only_b))
                if (missing := [_with_reason(i, other) for i in ids])
            )
            + (mismatch_hint(only_a, only_b) or "Compare the trials that both have with --common.")
        )
    return rows, found[rows]


def _with_reason(identity: str, other: Scores) -> str:
    reason = other.skipped.get(identity)
    return f"{identity} (skipped there: {reason})" if reason else str(identity)


def _gaps(scores: Scores) -> np.ndarray:
    gaps = scores.rank_gaps
    if gaps is None:
        return np.full(len(scores), np.nan)
    if gaps.dtype.kind != "f":
        wrong = next(gap for gap in gaps if gap and not is_number(gap))
        raise InputError(f"{scores.name}: its rank gaps are not numbers, such as {wrong!r}")
    return gaps.astype(np.float64)


def _correlations(one: np.ndarray, other: np.ndarray) -> dict[str, float | None]:
    from scipy import stats

    # Of a constant there is no correlation.
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return {"pearson": None, "spearman": None}
    return {
        "pearson": float(np.corrcoef(one, other)[0, 1]),
        "spearman": float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1]),
    }


def _own_labels(a: Scores, b: Scores) -> Labels | None:
    for scores in (a, b):
        if set(own_label_words(scores) or ()) == {True, False}:
            return labels_of(scores)
    return None


def _labelled(
    ids: np.ndarray, one: np.ndarray, other: np.ndarray, labels: Labels, cluster: str | None, resamples: int, seed: int
) -> dict[str, Any]:
    known = dict(zip(labels.utterance_ids, range(len(labels.utterance_ids)), strict=True))
    if missing := [str(identity) for identity in ids if identity not in known]:
        hint = mismatch_hint(missing, list(labels.utterance_ids))
        raise InputError(
            f"{count(len(missing), 'trial')} without a label in {labels.name}:{examples(missing)}"
            + (f"\n{hint}" if hint else "")
        )
    if cluster is not None and cluster not in labels.columns:
        raise InputError(f"no column {cluster!r} in {labels.name}: {', '.join(labels.columns) or 'none'}")
    places = np.array([known[identity] for identity in ids])
    bonafide = labels.bonafide[places]
    require_both_classes(labels.name, bonafide)
    # EERs as the Arena has them.
    one, other = six_decimals(one), six_decimals(other)
    equal = [metrics.eer(scores[bonafide], scores[~bonafide]) for scores in (one, other)]
    flips = (one >= equal[0].threshold) != (other >= equal[0].threshold)
    numbers: dict[str, Any] = {
        "n_bonafide": int(bonafide.sum()),
        "n_spoof": int((~bonafide).sum()),
        "eer_percent": [100 * rate.rate for rate in equal],
        "threshold": equal[0].threshold,
        "n_flips": int(flips.sum()),
        "flips": [str(identity) for identity in ids[flips][:WORST]],
        "subsets": subset_counts({name: column[places] for name, column in labels.columns.items()}),
        "eer_difference_percent": 100 * (equal[0].rate - equal[1].rate),
    }
    if resamples:
        drawn: dict[str, Any] = {"resamples": resamples, "seed": seed}
        drawn["clusters"] = None if cluster is None else labels.columns[cluster][places]
        each = [metrics.bootstrap(scores, bonafide, ("eer",), **drawn)["eer"] for scores in (one, other)]
        numbers["eer_percent_interval"] = [interval_of("eer", interval)[1] for interval in each]
        between = metrics.bootstrap_difference(one, other, bonafide, ("eer",), **drawn)["eer"]
        numbers["eer_difference_percent_interval"] = interval_of("eer", between)[1]
        numbers |= {"resamples": resamples, "seed": seed, "cluster": cluster}
    return numbers


def _worst(
    a: Scores,
    rows_a: np.ndarray,
    b: Scores,
    rows_b: np.ndarray,
    size: np.ndarray,
    gaps: np.ndarray,
    unexplained: np.ndarray,
) -> list[dict[str, Any]]:
    """The largest differences, unexplained ones first."""
    order = np.lexsort((-size, ~unexplained))[:WORST]
    pools = [scores.columns.get(RANK_GAP_POOL) for scores in (a, b)]
    worst = []
    for place in order:
        if size[place] == 0:
            break
        # The pool of the smaller gap.
        own = [_gaps(scores)[rows[place]] for scores, rows in ((a, rows_a), (b, rows_b))]
        nearer = 0 if np.isnan(own[1]) or own[0] <= own[1] else 1
        column = pools[nearer]
        worst.append(
            {
                "utterance_id": str(a.utterance_ids[rows_a[place]]),
                "a": float(a.scores[rows_a[place]]),
                "b": float(b.scores[rows_b[place]]),
                "difference": float(a.scores[rows_a[place]] - b.scores[rows_b[place]]),
                "smallest_rank_gap": float(gaps[place]) if np.isfinite(gaps[place]) else None,
                "rank_gap_pool": None if column is None else str(column[(rows_a, rows_b)[nearer][place]]),
                "unexplained": bool(unexplained[place]),
            }
        )
    return worst


def _verdict(numbers: Mapping[str, Any]) -> str:
    trials, tolerance = count(numbers["n"], "trial"), f"{numbers['tolerance']:g}"
    beyond, unexplained = numbers["n_beyond_tolerance"], numbers["n_unexplained"]
    if not beyond:
        return f"The same: {trials}, none differs by more than {tolerance}."
    near = f"a near tie (rank gap below {numbers['gap_bound']:g})"
    if not unexplained:
        return (
            f"The same but for near ties: of {trials}, {beyond:,} differ by more than {tolerance}, each with {near}, "
            "where rounding decides the score."
        )
    if not numbers["n_with_gap"]:
        return (
            f"Different: {unexplained:,} of {trials} differ by more than {tolerance}. Neither file has rank gaps, "
            "without which near ties and bugs look alike: score with --diagnostics."
        )
    return (
        f"Different: {unexplained:,} of {trials} differ by more than {tolerance} without {near}"
        + (f"; {numbers['n_explained']:,} more have one" if numbers["n_explained"] else "")
        + "."
    )


def hints(comparison: Comparison) -> list[str]:
    """What a user should know about the figures: scores that look inverted."""
    numbers = comparison.numbers
    if "eer_percent" not in numbers:
        opposite = numbers["spearman"] is not None and numbers["spearman"] < -0.5
        both = f"{numbers['a']} and {numbers['b']}"
        return [f"{both} rank the trials in opposite orders: are the scores of one inverted?"] if opposite else []
    rates = dict(zip((numbers["a"], numbers["b"]), numbers["eer_percent"], strict=True))
    return [hint for name, rate in rates.items() for hint in inverted(str(name), rate)]


def write(comparison: Comparison, path: Path) -> None:
    """Write every trial as CSV, whole or not at all: scores, difference, rank gap, and what explains it."""
    with output_file(path) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
        rows = csv.writer(file)
        rows.writerow(("utterance_id", "a", "b", "difference", RANK_GAP, "verdict"))
        columns = (comparison.utterance_ids, comparison.a, comparison.b, comparison.gaps)
        marks = (comparison.explained, comparison.unexplained)
        for name, a, b, gap, explained, unexplained in zip(*columns, *marks, strict=True):
            verdict = "near tie" if explained else "unexplained" if unexplained else ""
            known = float(gap) if np.isfinite(gap) else None
            rows.writerow((name, float(a), float(b), float(a - b), known, verdict))
        file.flush()
        file.detach()


def table(comparison: Comparison, console: Console, worst: int = WORST) -> None:
    """Print the comparison as tables, in which the systems are A and B."""
    numbers = comparison.numbers
    rows = [("largest |difference|", f"{numbers['max_difference']:.3g}")]
    if numbers["max_difference_without_near_ties"] is not None and numbers["n_near_ties"]:
        rows.append(("  without near ties", f"{numbers['max_difference_without_near_ties']:.3g}"))
    rows.append(("mean |difference|", f"{numbers['mean_difference']:.3g}"))
    for quantile, value in numbers["quantiles"].items():
        rows.append((f"  {100 * float(quantile):g} % are at most", f"{value:.3g}"))
    rows.append(("mean difference", f"{numbers['bias']:+.3g}"))
    correlations = {name.capitalize(): numbers[name] for name in ("pearson", "spearman")}
    rows += [(name, "-" if value is None else f"{value:.6f}") for name, value in correlations.items()]
    rows.append((f"beyond {numbers['tolerance']:g}", f"{numbers['n_beyond_tolerance']:,}"))
    rows.append((f"  explained by a rank gap below {numbers['gap_bound']:g}", f"{numbers['n_explained']:,}"))
    rows.append(("  unexplained", f"{numbers['n_unexplained']:,}"))
    if "eer_percent" in numbers:
        for index, name in enumerate("AB"):
            interval = numbers.get("eer_percent_interval")
            rows.append((f"EER of {name}", _eer(numbers["eer_percent"][index], interval and interval[index])))
        between = numbers.get("eer_difference_percent_interval")
        rows.append(("EER of A minus EER of B, paired", _eer(numbers["eer_difference_percent"], between)))
        rows.append((f"decisions that flip at {number(numbers['threshold'], 6)}", f"{numbers['n_flips']:,}"))
    for name in ("a", "b"):
        console.print(Text(f"{name.upper()}: {printable(numbers[name])}", overflow="fold"), highlight=False)
    columns = [Column("", "text"), Column("", "number")]
    print_table(console, columns, rows, title=f"A minus B, {count(numbers['n'], 'trial')}", header=False)
    if trials := numbers["worst"][:worst]:
        _worst_table(trials, console)
    console.print(Text(printable(comparison.verdict)), highlight=False)


def _worst_table(trials: Sequence[Mapping[str, Any]], console: Console) -> None:
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
            *(row["utterance_id"], number(row["a"], 6), number(row["b"], 6), f"{row['difference']:+.2g}"),
            "-" if row["smallest_rank_gap"] is None else f"{row['smallest_rank_gap']:.2g}",
            row["rank_gap_pool"] or "",
            "unexplained" if row["unexplained"] else "",
        )
        for row in trials
    ]
    kept = [index for index in range(len(columns)) if index < 4 or any(row[index] not in ("", "-") for row in rows)]
    shown = [[row[index] for index in kept] for row in rows]
    title = "The largest differences, unexplained ones first"
    print_table(console, [columns[index] for index in kept], shown, title=title)


def _eer(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f} %" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
