"""Evaluate a system's scores: error rates and costs, overall and by group, with bootstrap intervals.

    evaluation = evaluate(read_scores("scores.txt"), read_labels("labels.parquet"))
    evaluation.eer_percent, evaluation.intervals["eer_percent"]

The EER is the Speech Anti-Spoofing Arena's, of scores rounded to six decimals as in its score files; `exact=True` does
not round them. `convention="asvspoof"` computes the EER as the ASVspoof challenges do, of scores as they are.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from spectra_jax.data.conventions import NOTHING, is_bonafide
from spectra_jax.data.labels import Labels, labels_of, subset_counts
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError, MetricError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.matching import check_all_labelled, matching_rows
from spectra_jax.evaluation.metrics import ASVSPOOF5, STATISTICS, Costs, Interval
from spectra_jax.messages import count

CONFIDENCE = 0.95
"""Of the intervals, here and in `spectra_jax.evaluation.compare`."""

Convention = Literal["arena", "asvspoof"]
"""Whose definition the EER has."""
_EER = {"arena": "eer", "asvspoof": "asvspoof_eer"}

# Rates that are stated in percent, by the name of the metric.
_PERCENT = {"eer": "eer_percent", "asvspoof_eer": "eer_percent", "rocch_eer": "rocch_eer_percent"}

Opponents = Literal["its own", "all bona fide", "all spoof"]
"""The trials of the other class that a group's EER is computed against."""


@dataclass(frozen=True)
class Resampling:
    """How bootstrap intervals are drawn.

    Attributes:
      resamples: their number; 0 for no intervals.
      seed: of the random numbers.
      cluster: the column whose groups are resampled as a unit, such as `speaker`; None resamples trials.
    """

    resamples: int
    seed: int
    cluster: str | None


@dataclass(frozen=True)
class Figures:
    """The metrics of one system; see `spectra_jax.evaluation.metrics` for each.

    Attributes:
      threshold, rocch_threshold: the scores at which the EERs are reached.
      cllr, min_cllr: in bits.
    """

    eer_percent: float
    threshold: float
    rocch_eer_percent: float
    rocch_threshold: float
    auc: float
    min_dcf: float
    act_dcf: float
    cllr: float
    min_cllr: float


@dataclass(frozen=True)
class ThresholdRates:
    """Both error rates, as fractions, where scores at or above `threshold` are accepted as bona fide."""

    threshold: float
    false_acceptance: float
    false_rejection: float


@dataclass(frozen=True)
class Group:
    """The trials that share a value of a column.

    Attributes:
      n_bonafide, n_spoof: numbers of its trials.
      against: the trials of the other class that its EER is computed with: a group of both classes has its own.
      eer_percent: of the group.
      interval: of `eer_percent`, in percent; None without resamples.
      error_rate_at_threshold: the share of its trials that the threshold of the overall EER decides wrongly.
    """

    n_bonafide: int
    n_spoof: int
    against: Opponents
    eer_percent: float
    interval: Interval | None
    error_rate_at_threshold: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        interval = {} if self.interval is None else {"eer_percent_interval": [self.interval.low, self.interval.high]}
        return {
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "against": self.against,
            "eer_percent": self.eer_percent,
            **interval,
            "error_rate_at_threshold": self.error_rate_at_threshold,
        }


@dataclass(frozen=True)
class CrossTable:
    """EERs by two columns, such as attack and codec, without intervals.

    Attributes:
      rows: by the value of the first column, all values of the second together.
      columns: by the value of the second column, all values of the first together; values without trials of both
        classes are left out.
      cells: by the values of the second and of the first column. A value of the first column that has one class only,
        such as an attack, is evaluated with the other class's trials of the same value of the second column. Pairs
        without a trial are missing.
    """

    rows: Mapping[str, Group]
    columns: Mapping[str, Group]
    cells: Mapping[str, Mapping[str, Group]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the cells."""
        return {column: {row: group.to_dict() for row, group in rows.items()} for column, rows in self.cells.items()}


@dataclass(frozen=True)
class Evaluation(Figures):
    """A system's labelled trials and their metrics.

    Attributes:
      intervals: 95 % intervals by the name of the attribute, such as `eer_percent`; empty without resamples.
      name: of the system.
      labels_name: of the labels.
      utterance_ids: (n,) strings.
      scores: (n,) float64, rounded to six decimals unless `exact`.
      bonafide: (n,) bool.
      columns: (n,) arrays by name: those of the labels, and of the score file where the labels have none of that name.
      exact: whether scores are as read, not rounded.
      n_skipped: trials that the score file lists without a score.
      costs: those of `min_dcf` and `act_dcf`.
      resampling: of the intervals.
      thresholds: error rates at the thresholds asked for.
      groups: by column and value.
      cross_tables: by the names of two columns, joined by a comma.
      convention: whose definition the EERs have.
    """

    intervals: Mapping[str, Interval]
    name: str
    labels_name: str
    utterance_ids: np.ndarray
    scores: np.ndarray
    bonafide: np.ndarray
    columns: Mapping[str, np.ndarray]
    exact: bool
    n_skipped: int
    costs: Costs
    resampling: Resampling
    thresholds: Sequence[ThresholdRates]
    groups: Mapping[str, Mapping[str, Group]]
    cross_tables: Mapping[str, CrossTable] = field(default_factory=dict)
    convention: Convention = "arena"

    @property
    def decision_threshold(self) -> float:
        """The score from which the EER's decisions accept trials.

        By the convention of ASVspoof a trial at `threshold` is rejected, so that it is the next higher number.
        """
        return _decision_threshold(self.threshold, self.convention)

    @property
    def n_bonafide(self) -> int:
        return int(self.bonafide.sum())

    @property
    def n_spoof(self) -> int:
        return len(self.bonafide) - self.n_bonafide

    @property
    def subsets(self) -> dict[str, int]:
        """The number of trials of each subset, by the column `subset`; empty without it."""
        return subset_counts(self.columns)

    @property
    def numbers(self) -> dict[str, Any]:
        """Deprecated: the attributes, and `to_dict` for all of them."""
        warn_of_numbers("Evaluation", "eer_percent")
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as `spectra-jax evaluate --json` prints them."""
        values: dict[str, Any] = {name: getattr(self, name) for name in Figures.__dataclass_fields__}
        values |= {f"{name}_interval": [interval.low, interval.high] for name, interval in self.intervals.items()}
        values |= {
            "scores": self.name,
            "labels": self.labels_name,
            "convention": self.convention,
            "rounded_to_six_decimals": not self.exact,
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "n_skipped": self.n_skipped,
            "costs": asdict(self.costs),
            "resamples": self.resampling.resamples,
            "seed": self.resampling.seed,
            "confidence": CONFIDENCE,
            "cluster": self.resampling.cluster,
            "subsets": self.subsets,
        }
        if self.thresholds:
            values["thresholds"] = [asdict(rates) for rates in self.thresholds]
        if self.groups:
            values["groups"] = {
                column: {name: group.to_dict() for name, group in groups.items()}
                for column, groups in self.groups.items()
            }
        if self.cross_tables:
            values["cross_tables"] = {columns: table.to_dict() for columns, table in self.cross_tables.items()}
        return values


# Metrics of scores near the limits of float64 may be infinite or NaN, and are reported as such.
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
    convention: Convention = "arena",
) -> Evaluation:
    """Evaluate scores.

    Args:
      scores: of the system.
      labels: of its trials; None takes the score file's own column `label`.
      exact: do not round scores to six decimals.
      common: leave out trials that have only a score or only a label; otherwise they are an error, unless skipped.
      by: columns to evaluate group by group: a group of one class against all trials of the other. Two columns joined
        by a comma, such as `attack,codec`, are evaluated as a `CrossTable`.
      cluster: a column, such as `speaker`, whose groups the intervals resample as a unit.
      resamples: of the bootstrap; 0 for no intervals.
      seed: of the bootstrap.
      costs: of the detection cost functions.
      thresholds: also compute both error rates at each, scores at or above it being accepted as bona fide.
      convention: whose definition the EERs have; that of ASVspoof is of scores that are not rounded.

    Raises:
      InputError: ids that do not match, with counts and examples; an unknown column.
      MetricError: no bona fide or no spoofed trial.
    """
    exact = exact or convention == "asvspoof"
    labels = labels_of(scores) if labels is None else labels
    trials = match_trials(scores, labels, exact=exact, common=common)
    values, bonafide, columns = trials.scores, trials.bonafide, trials.columns
    check_both_classes(labels.name, bonafide)
    single, pairs = _columns_to_group_by(by)
    check_columns(
        [*single, *itertools.chain(*pairs), *([cluster] if cluster else [])], columns, f"{scores.name} or {labels.name}"
    )
    resampling = Resampling(resamples, seed, cluster)
    clusters = None if cluster is None else columns[cluster]
    figures = _figures(values, bonafide, costs, convention)
    grouping = _Grouping(values, bonafide, _decision_threshold(figures.threshold, convention), convention)
    statistics = [name for name in STATISTICS if name == _EER[convention] or name not in _EER.values()]
    return Evaluation(
        **asdict(figures),
        intervals=bootstrap_intervals(values, bonafide, statistics, resampling, clusters, costs),
        name=scores.name,
        labels_name=labels.name,
        utterance_ids=trials.utterance_ids,
        scores=values,
        bonafide=bonafide,
        columns=columns,
        exact=exact,
        n_skipped=len(scores.skipped),
        costs=costs,
        resampling=resampling,
        thresholds=_rates_at(thresholds, values, bonafide),
        groups={name: grouping.groups(columns[name], resampling, clusters) for name in single},
        cross_tables={f"{row},{column}": grouping.cross(columns[row], columns[column]) for row, column in pairs},
        convention=convention,
    )


@dataclass(frozen=True)
class MatchedTrials:
    """Trials that have a score and a label.

    Attributes:
      utterance_ids: (n,) strings.
      scores: (n,) float64.
      bonafide: (n,) bool.
      columns: (n,) arrays by name: those of the labels, and of the score file where the labels have none of that name.
    """

    utterance_ids: np.ndarray
    scores: np.ndarray
    bonafide: np.ndarray
    columns: Mapping[str, np.ndarray]


def match_trials(scores: Scores, labels: Labels, *, exact: bool, common: bool) -> MatchedTrials:
    """Match scores and labels by utterance id; see `evaluate` for the arguments and errors."""
    if not common:
        check_all_labelled(scores, labels)
    score_rows, label_rows = matching_rows(scores, labels)
    columns = {name: column[score_rows] for name, column in scores.columns.items()}
    return MatchedTrials(
        scores.utterance_ids[score_rows],
        scores.scores[score_rows] if exact else six_decimals(scores.scores[score_rows]),
        labels.bonafide[label_rows],
        columns | {name: column[label_rows] for name, column in labels.columns.items()},
    )


def _columns_to_group_by(names: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The single columns and the pairs of columns among `attack` and `attack,codec`."""
    single = [name for name in names if "," not in name]
    pairs = [name.split(",") for name in names if "," in name]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise InputError(f"{','.join(wrong[0])!r}: a table has two columns, such as attack,codec")
    return single, [(row.strip(), column.strip()) for row, column in pairs]


def _decision_threshold(threshold: float, convention: Convention) -> float:
    """The score from which trials are accepted."""
    return float(np.nextafter(threshold, np.inf)) if convention == "asvspoof" else threshold


def check_columns(names: Sequence[str], columns: Mapping[str, np.ndarray], files: str) -> None:
    """Raise InputError unless these columns exist; `files` are named in the message."""
    if unknown := [name for name in names if name not in columns]:
        raise InputError(f"no column {unknown[0]!r} in {files}; the columns are {', '.join(columns) or 'none'}")


def six_decimals(scores: np.ndarray) -> np.ndarray:
    """Scores as in the Arena's score files. Through text, since rounding by multiplication gives others at times."""
    return np.array([f"{score:.6f}" for score in scores]).astype(np.float64)


def check_both_classes(name: str, bonafide: np.ndarray) -> None:
    """Check that there are trials of both classes.

    Args:
      name: of the labels, for the message.
      bonafide: (n,) bool.

    Raises:
      MetricError: all trials are of one class.
    """
    if bonafide.all() or not bonafide.any():
        only, other = ("bona fide", "spoofed") if bonafide.all() else ("spoofed", "bona fide")
        raise MetricError(f"{name}: {count(len(bonafide), 'trial')}, all {only}; error rates need {other} trials too")


def bootstrap_intervals(
    scores: np.ndarray,
    bonafide: np.ndarray,
    statistics: Sequence[str],
    resampling: Resampling,
    clusters: np.ndarray | None,
    costs: Costs = ASVSPOOF5,
) -> dict[str, Interval]:
    """Intervals by the name of the attribute, rates in percent; empty without resamples."""
    if not resampling.resamples:
        return {}
    found = metrics.bootstrap(
        scores,
        bonafide,
        statistics,
        resamples=resampling.resamples,
        seed=resampling.seed,
        clusters=clusters,
        confidence=CONFIDENCE,
        costs=costs,
    )
    return {
        _PERCENT.get(name, name): in_percent(interval) if name in _PERCENT else interval
        for name, interval in found.items()
    }


def in_percent(interval: Interval) -> Interval:
    return Interval(100 * interval.low, 100 * interval.high)


def members_by_value(column: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each value of a column in order, and which trials have it, (n,) bool. Some may have no value.

    One at a time, since a column may have as many values as trials.
    """
    values = np.array([str(value) for value in column], object)
    return ((value, values == value) for value in sorted(set(values) - NOTHING - {"nan"}))


def warn_of_numbers(name: str, attribute: str) -> None:
    """Warn the caller of a `numbers` property that it is deprecated; `attribute` is an example of what replaces it."""
    warnings.warn(
        f"{name}.numbers is deprecated and will be removed in the next release: read an attribute, such as "
        f"{name}.{attribute}, or {name}.to_dict()",
        DeprecationWarning,
        stacklevel=3,
    )


def equal_error_rate(bonafide: np.ndarray, spoof: np.ndarray, convention: Convention) -> metrics.EqualErrorRate:
    """The EER of scores by a convention."""
    return metrics.asvspoof_eer(bonafide, spoof) if convention == "asvspoof" else metrics.eer(bonafide, spoof)


def _figures(scores: np.ndarray, bonafide: np.ndarray, costs: Costs, convention: Convention) -> Figures:
    classes = scores[bonafide], scores[~bonafide]
    equal, hull = equal_error_rate(*classes, convention), metrics.rocch_eer(*classes)
    return Figures(
        eer_percent=100 * equal.rate,
        threshold=equal.threshold,
        rocch_eer_percent=100 * hull.rate,
        rocch_threshold=hull.threshold,
        auc=metrics.auc(*classes),
        min_dcf=metrics.min_dcf(*classes, costs),
        act_dcf=metrics.act_dcf(*classes, costs),
        cllr=metrics.cllr(*classes),
        min_cllr=metrics.min_cllr(*classes),
    )


def _rates_at(thresholds: Sequence[float], scores: np.ndarray, bonafide: np.ndarray) -> list[ThresholdRates]:
    if not thresholds:
        return []
    rates = metrics.error_rates(scores[bonafide], scores[~bonafide], np.asarray(thresholds, np.float64))
    rows = zip(rates.thresholds, rates.false_acceptance, rates.false_rejection, strict=True)
    return [ThresholdRates(*map(float, row)) for row in rows]


@dataclass(frozen=True)
class _Grouping:
    """Trials to evaluate by group, and the threshold at or above which they are accepted."""

    scores: np.ndarray
    bonafide: np.ndarray
    threshold: float
    convention: Convention

    def groups(
        self, column: np.ndarray, resampling: Resampling, clusters: np.ndarray | None = None
    ) -> dict[str, Group]:
        """The groups of a column by value, those of trials without a value left out."""
        return {value: self._group(members, resampling, clusters) for value, members in members_by_value(column)}

    def cross(self, rows: np.ndarray, columns: np.ndarray) -> CrossTable:
        """The EERs by two columns; bona fide trials' own word in the first one is no group."""
        without = Resampling(0, 0, None)
        pooled = {
            value: group for value, group in self.groups(columns, without).items() if group.n_bonafide and group.n_spoof
        }
        cells = {}
        for value, members in members_by_value(columns):
            if value in pooled:
                part = replace(self, scores=self.scores[members], bonafide=self.bonafide[members])
                cells[value] = _without_bonafide_words(part.groups(rows[members], without))
        return CrossTable(_without_bonafide_words(self.groups(rows, without)), pooled, cells)

    def _group(self, members: np.ndarray, resampling: Resampling, clusters: np.ndarray | None) -> Group:
        scores, bonafide = self.scores, self.bonafide
        against = _opponents(bonafide[members])
        # A group of one class, such as an attack, is evaluated with all trials of the other class.
        taken = members if against == "its own" else members | (bonafide == (against == "all bona fide"))
        eer = equal_error_rate(scores[taken & bonafide], scores[taken & ~bonafide], self.convention)
        within = None if clusters is None else clusters[taken]
        intervals = bootstrap_intervals(scores[taken], bonafide[taken], (_EER[self.convention],), resampling, within)
        return Group(
            n_bonafide=int((members & bonafide).sum()),
            n_spoof=int((members & ~bonafide).sum()),
            against=against,
            eer_percent=100 * eer.rate,
            interval=intervals.get("eer_percent"),
            error_rate_at_threshold=float(((scores[members] >= self.threshold) != bonafide[members]).mean()),
        )


def _without_bonafide_words(groups: Mapping[str, Group]) -> dict[str, Group]:
    return {value: group for value, group in groups.items() if not is_bonafide(value)}


def _opponents(bonafide: np.ndarray) -> Opponents:
    """The trials to evaluate a group with whose own classes are `bonafide`."""
    if bonafide.any() and not bonafide.all():
        return "its own"
    return "all spoof" if bonafide.all() else "all bona fide"
