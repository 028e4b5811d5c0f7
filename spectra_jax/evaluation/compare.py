"""Compare two systems' scores: how far they differ, which differences near ties explain, and a verdict.

    comparison = compare(read_scores("jax.csv"), read_scores("torch.txt"))
    comparison.agrees, comparison.verdict

The network ranks graph nodes. Two nodes that nearly tie can change their order under rounding, and the score then
jumps, in a correct implementation as in a faulty one. A difference beyond the tolerance is explained where the trial's
smallest rank gap is below the bound and `spectra_jax.evaluation.near_ties` allows that explanation; all others are
unexplained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from spectra_jax.data.labels import Labels, labels_of, own_label_words, subset_counts
from spectra_jax.data.score_files import RANK_GAP_POOL, Scores
from spectra_jax.data.tables import is_number
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import (
    CONFIDENCE,
    Resampling,
    bootstrap_intervals,
    check_both_classes,
    in_percent,
    six_decimals,
    warn_of_numbers,
)
from spectra_jax.evaluation.matching import check_same_trials, label_rows, matching_rows
from spectra_jax.evaluation.metrics import Interval
from spectra_jax.evaluation.near_ties import GapBound, NearTieTests, check_near_ties, measure_gap_bound
from spectra_jax.messages import count
from spectra_jax.model.rank_gap import GAP_BOUND

_QUANTILES = (0.5, 0.9, 0.99, 0.999)
WORST = 10
"""The number of trials in `Comparison.worst`, and of ids in the JSON's `flips`."""


@dataclass(frozen=True)
class DifferenceStatistics:
    """How far the scores lie apart, over all trials.

    Attributes:
      max_difference, mean_difference: of |a - b|.
      bias: the mean of a - b.
      quantiles: of |a - b|, by the quantile as text: "0.5", "0.9", ...
      max_difference_without_near_ties: of the trials whose rank gap is not below the bound; None where there are none.
      pearson, spearman: correlations; None where one system's scores are constant.
    """

    max_difference: float
    mean_difference: float
    bias: float
    quantiles: Mapping[str, float]
    max_difference_without_near_ties: float | None
    pearson: float | None
    spearman: float | None


@dataclass(frozen=True)
class PairedIntervals:
    """95 % intervals of both EERs and of their difference, in percent, all from the same resamples."""

    eer_a: Interval
    eer_b: Interval
    difference: Interval
    resampling: Resampling


@dataclass(frozen=True)
class PairedErrorRates:
    """The error rates of both systems on the trials that they share.

    Attributes:
      n_bonafide, n_spoof: numbers of trials.
      eer_percent: of a and b, of scores rounded to six decimals.
      eer_difference_percent: the EER of a minus that of b.
      threshold: of a's EER.
      flips: ids of the trials that a and b classify differently at this threshold.
      subsets: the number of trials of each subset, by the labels' column `subset`; empty without it.
      intervals: None without resamples.
    """

    n_bonafide: int
    n_spoof: int
    eer_percent: tuple[float, float]
    eer_difference_percent: float
    threshold: float
    flips: Sequence[str]
    subsets: Mapping[str, int]
    intervals: PairedIntervals | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {
            "n_bonafide": self.n_bonafide,
            "n_spoof": self.n_spoof,
            "eer_percent": list(self.eer_percent),
            "threshold": self.threshold,
            "n_flips": len(self.flips),
            "flips": list(self.flips[:WORST]),
            "subsets": dict(self.subsets),
            "eer_difference_percent": self.eer_difference_percent,
        }
        if self.intervals is not None:
            a, b, difference = self.intervals.eer_a, self.intervals.eer_b, self.intervals.difference
            values["eer_percent_interval"] = [[a.low, a.high], [b.low, b.high]]
            values["eer_difference_percent_interval"] = [difference.low, difference.high]
            values |= asdict(self.intervals.resampling)
        return values


@dataclass(frozen=True)
class TrialDifference:
    """A trial's two scores.

    Attributes:
      difference: a - b.
      smallest_rank_gap: the smaller of both files' rank gaps; None where neither has one.
      rank_gap_pool: the graph pool of that gap; None without the column.
      unexplained: whether the difference is beyond the tolerance, and no near tie explains it.
    """

    utterance_id: str
    a: float
    b: float
    difference: float
    smallest_rank_gap: float | None
    rank_gap_pool: str | None
    unexplained: bool


@dataclass(frozen=True)
class Comparison(DifferenceStatistics):
    """Two systems' scores of the same trials.

    Attributes:
      name_a, name_b: of the systems.
      utterance_ids: (n,) strings, in the order of a.
      scores_a, scores_b: (n,) float64.
      differences: (n,) float64, a - b.
      rank_gaps: (n,) the smaller of the trial's rank gaps in both files, NaN where neither has one.
      explained: (n,) bool: differs by more than the tolerance, and a near tie explains it.
      unexplained: (n,) bool: differs by more than the tolerance, and no near tie explains it.
      tolerance: as given.
      gap_bound: a rank gap below it is a near tie.
      num_gap_bound_trials: on how many trials the bound was measured; None for a bound that was stated.
      near_tie_tests: whether near ties can explain differences; None where no trial with a near tie differs.
      n_only_a, n_only_b: trials of one file that the other does not have.
      error_rates: None without labels.
      worst: the largest differences, unexplained ones first.
    """

    name_a: str
    name_b: str
    utterance_ids: np.ndarray
    scores_a: np.ndarray
    scores_b: np.ndarray
    differences: np.ndarray
    rank_gaps: np.ndarray
    explained: np.ndarray
    unexplained: np.ndarray
    tolerance: float
    gap_bound: float
    num_gap_bound_trials: int | None
    near_tie_tests: NearTieTests | None
    n_only_a: int
    n_only_b: int
    error_rates: PairedErrorRates | None
    worst: Sequence[TrialDifference]

    @property
    def n_explained(self) -> int:
        return int(self.explained.sum())

    @property
    def n_unexplained(self) -> int:
        return int(self.unexplained.sum())

    @property
    def n_beyond_tolerance(self) -> int:
        return self.n_explained + self.n_unexplained

    @property
    def n_with_gap(self) -> int:
        """The number of trials with a rank gap."""
        return int(np.isfinite(self.rank_gaps).sum())

    @property
    def n_near_ties(self) -> int:
        """The number of trials whose rank gap is below the bound."""
        return int((self.rank_gaps < self.gap_bound).sum())

    @property
    def agrees(self) -> bool:
        """Whether no difference is unexplained."""
        return not self.n_unexplained

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        trials, tolerance = count(len(self.utterance_ids), "trial"), f"{self.tolerance:g}"
        if not self.n_beyond_tolerance:
            return f"The same: {trials}, none differs by more than {tolerance}."
        near = f"a near tie (rank gap below {self.gap_bound:.2g})"
        if self.agrees:
            differ = f"{self.n_beyond_tolerance:,} {'differs' if self.n_beyond_tolerance == 1 else 'differ'}"
            return (
                f"The same but for near ties: of {trials}, {differ} by more than {tolerance}, each with {near}, where "
                "rounding decides the score."
            )
        different = f"Different: {self.n_unexplained:,} of {trials} differ by more than {tolerance}"
        tests = self.near_tie_tests
        if tests is not None and tests.refusals:
            return f"{different}, with {near} at {tests.num_jumps:,}. That explains none: {'; '.join(tests.refusals)}."
        if not self.n_with_gap:
            return (
                f"{different}. Neither file has rank gaps, without which near ties and bugs look alike: score with "
                "--diagnostics."
            )
        more = f"; near ties explain {self.n_explained:,} more" if self.n_explained else ""
        if tests is not None and tests.num_wrong_size:
            return (
                f"{different}, with {near} at {tests.num_wrong_size:,}, where B's score is not A's with the tied nodes "
                f"swapped{more}."
            )
        return f"{different} without {near}{more}."

    @property
    def near_tie_notes(self) -> Sequence[str]:
        """The tests of near ties, and the origin of their bound; empty where no trial with a near tie differs."""
        if self.near_tie_tests is None:
            return []
        if self.num_gap_bound_trials is not None:
            bound = f"measured: four times the largest change of a rank gap in {self.num_gap_bound_trials:,} trials."
        elif self.gap_bound == GAP_BOUND:
            bound = (
                "that of a tiny network. It is measured where both sides have the rank gaps of 20 trials or more, and "
                "these differ by no more than that."
            )
        else:
            bound = "as given."
        return [self.near_tie_tests.summary, f"The bound of near ties, {self.gap_bound:.2g}, is {bound}"]

    @property
    def numbers(self) -> dict[str, Any]:
        """Deprecated: the attributes, and `to_dict` for all of them."""
        warn_of_numbers("Comparison", "max_difference")
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, as `spectra-jax compare --json` prints them."""
        return {
            "a": self.name_a,
            "b": self.name_b,
            "n": len(self.utterance_ids),
            "n_only_a": self.n_only_a,
            "n_only_b": self.n_only_b,
            "tolerance": self.tolerance,
            "gap_bound": self.gap_bound,
            "num_gap_bound_trials": self.num_gap_bound_trials,
            "max_difference": self.max_difference,
            "mean_difference": self.mean_difference,
            "bias": self.bias,
            "quantiles": dict(self.quantiles),
            "pearson": self.pearson,
            "spearman": self.spearman,
            "n_beyond_tolerance": self.n_beyond_tolerance,
            "n_explained": self.n_explained,
            "n_unexplained": self.n_unexplained,
            "n_with_gap": self.n_with_gap,
            "n_near_ties": self.n_near_ties,
            "max_difference_without_near_ties": self.max_difference_without_near_ties,
            "near_tie_tests": None if self.near_tie_tests is None else self.near_tie_tests.to_dict(),
            **({} if self.error_rates is None else self.error_rates.to_dict()),
            "worst": [asdict(trial) for trial in self.worst],
            "agrees": self.agrees,
            "verdict": self.verdict,
        }


# Differences of scores near the limits of float64 may be infinite, and are reported as such.
@np.errstate(over="ignore", invalid="ignore")
def compare(
    a: Scores,
    b: Scores,
    labels: Labels | None = None,
    *,
    tolerance: float = 1e-4,
    gap_bound: float | GapBound | None = None,
    swapped_scores: Mapping[str, Sequence[float]] | None = None,
    common: bool = False,
    cluster: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two systems' scores.

    Args:
      a, b: the systems. Their order sets the signs of differences, and flips are counted at a's threshold.
      labels: of the trials; None takes the labels of either file, where all of its trials have one.
      tolerance: the largest |difference| that is attributed to rounding. float32 scores without a near tie agree within
        1e-4; printing six decimals alone adds up to 1e-6.
      gap_bound: a rank gap below it can close under rounding. None measures it where both files have rank gaps, and
        otherwise takes that of a tiny network: see `spectra_jax.evaluation.near_ties.measure_gap_bound`.
      swapped_scores: by utterance id, the scores that the network has with tied nodes swapped, where they are known.
        With them, a difference is explained only if b's score is one of these, up to the tolerance.
      common: compare the trials that both have; otherwise a trial of one file only is an error.
      cluster: a column of the labels, such as `speaker`, whose groups the intervals resample as a unit.
      resamples: of the bootstrap for intervals of the EERs and of their difference; 0 for none.
      seed: of the bootstrap.

    Raises:
      InputError: ids that do not match, with counts and examples; a negative or NaN tolerance or bound; an unknown
        column, or one without labels.
      MetricError: labels of one class only.
    """
    _require_not_negative("tolerance", tolerance)
    trials = _paired(a, b, common)
    beyond = np.abs(trials.differences) > tolerance
    if gap_bound is None:
        gap_bound = measure_gap_bound(trials.gaps_a, trials.gaps_b, ~beyond, largest_change=GAP_BOUND)
    bound = gap_bound if isinstance(gap_bound, GapBound) else GapBound(gap_bound)
    _require_not_negative("gap bound", bound.value)
    labels = labels or _own_labels(a, b)
    if labels is None and cluster is not None:
        raise InputError(f"--cluster {cluster} needs labels, since the intervals are of EERs: give them with --labels")
    near_tie = trials.rank_gaps < bound.value
    wrong_size = None if swapped_scores is None else _wrong_size(trials, swapped_scores, tolerance)
    tests = check_near_ties(trials.differences, near_tie, beyond, wrong_size)
    explained = beyond & near_tie & (tests is not None and not tests.refusals)
    if wrong_size is not None:
        explained &= ~wrong_size
    unexplained = beyond & ~explained
    return Comparison(
        **asdict(_statistics(trials, near_tie)),
        name_a=a.name,
        name_b=b.name,
        utterance_ids=trials.ids,
        scores_a=trials.scores_a,
        scores_b=trials.scores_b,
        differences=trials.differences,
        rank_gaps=trials.rank_gaps,
        explained=explained,
        unexplained=unexplained,
        tolerance=tolerance,
        gap_bound=bound.value,
        num_gap_bound_trials=bound.num_trials,
        near_tie_tests=tests,
        n_only_a=len(a) - len(trials.ids),
        n_only_b=len(b) - len(trials.ids),
        error_rates=None if labels is None else _error_rates(trials, labels, Resampling(resamples, seed, cluster)),
        worst=_worst(trials, unexplained),
    )


def _require_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        raise InputError(f"a {name} of {value}; it must be 0 or more")


@dataclass(frozen=True)
class _Trials:
    """The trials that both systems have, in the order of a; arrays of (n,)."""

    ids: np.ndarray
    scores_a: np.ndarray
    scores_b: np.ndarray
    gaps_a: np.ndarray
    gaps_b: np.ndarray
    pools_a: np.ndarray | None
    pools_b: np.ndarray | None

    @cached_property
    def differences(self) -> np.ndarray:
        return self.scores_a - self.scores_b

    @cached_property
    def rank_gaps(self) -> np.ndarray:
        return np.fmin(self.gaps_a, self.gaps_b)

    def pool(self, row: int) -> str | None:
        """The graph pool of a trial's smaller rank gap; None where its file has no such column."""
        of_a = np.isnan(self.gaps_b[row]) or self.gaps_a[row] <= self.gaps_b[row]
        pools = self.pools_a if of_a else self.pools_b
        return None if pools is None else str(pools[row])


def _paired(a: Scores, b: Scores, common: bool) -> _Trials:
    rows_a, rows_b = matching_rows(a, b)
    if not common:
        check_same_trials(a, b)
    scores_a, scores_b = a.scores[rows_a], b.scores[rows_b]
    _check_finite(a.name, scores_a)
    _check_finite(b.name, scores_b)
    pools_a, pools_b = a.columns.get(RANK_GAP_POOL), b.columns.get(RANK_GAP_POOL)
    return _Trials(
        ids=a.utterance_ids[rows_a],
        scores_a=scores_a,
        scores_b=scores_b,
        gaps_a=_rank_gaps(a)[rows_a],
        gaps_b=_rank_gaps(b)[rows_b],
        pools_a=None if pools_a is None else pools_a[rows_a],
        pools_b=None if pools_b is None else pools_b[rows_b],
    )


def _wrong_size(trials: _Trials, swapped_scores: Mapping[str, Sequence[float]], tolerance: float) -> np.ndarray:
    """(n,) bool: the trials where b's score is none of the network's scores with tied nodes swapped."""
    return np.array(
        [
            all(abs(score - swapped) > tolerance for swapped in swapped_scores.get(identity, ()))
            for identity, score in zip(trials.ids, trials.scores_b.tolist(), strict=True)
        ],
        bool,
    )


def _check_finite(name: str, scores: np.ndarray) -> None:
    if bad := int(np.count_nonzero(~np.isfinite(scores))):
        raise InputError(f"{name}: {count(bad, 'score')} NaN or infinite")


def _rank_gaps(scores: Scores) -> np.ndarray:
    """(n,) float64, NaN where there is none."""
    gaps = scores.rank_gaps
    if gaps is None:
        return np.full(len(scores), np.nan)
    if gaps.dtype.kind != "f":
        wrong = next(gap for gap in gaps if gap and not is_number(gap))
        raise InputError(f"{scores.name}: its rank gaps are not numbers, such as {wrong!r}")
    return gaps.astype(np.float64)


def _statistics(trials: _Trials, near_tie: np.ndarray) -> DifferenceStatistics:
    from scipy import stats

    a, b, size = trials.scores_a, trials.scores_b, np.abs(trials.differences)
    # The correlation with a constant is undefined.
    constant = len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0
    return DifferenceStatistics(
        max_difference=float(size.max()),
        mean_difference=float(size.mean()),
        bias=float(trials.differences.mean()),
        quantiles={f"{quantile:g}": float(np.quantile(size, quantile)) for quantile in _QUANTILES},
        max_difference_without_near_ties=None if near_tie.all() else float(size[~near_tie].max()),
        pearson=None if constant else float(np.corrcoef(a, b)[0, 1]),
        spearman=None if constant else float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]),
    )


def _own_labels(a: Scores, b: Scores) -> Labels | None:
    for scores in (a, b):
        if set(own_label_words(scores) or ()) == {True, False}:
            return labels_of(scores)
    return None


def _error_rates(trials: _Trials, labels: Labels, resampling: Resampling) -> PairedErrorRates:
    rows, cluster = label_rows(trials.ids, labels), resampling.cluster
    if cluster is not None and cluster not in labels.columns:
        raise InputError(
            f"no column {cluster!r} in {labels.name}; its columns are {', '.join(labels.columns) or 'none'}"
        )
    bonafide = labels.bonafide[rows]
    check_both_classes(labels.name, bonafide)
    # The EER of the Arena is of scores with six decimals.
    a, b = six_decimals(trials.scores_a), six_decimals(trials.scores_b)
    eer_a, eer_b = (metrics.eer(scores[bonafide], scores[~bonafide]) for scores in (a, b))
    flips = (a >= eer_a.threshold) != (b >= eer_a.threshold)
    clusters = None if cluster is None else labels.columns[cluster][rows]
    return PairedErrorRates(
        n_bonafide=int(bonafide.sum()),
        n_spoof=int((~bonafide).sum()),
        eer_percent=(100 * eer_a.rate, 100 * eer_b.rate),
        eer_difference_percent=100 * (eer_a.rate - eer_b.rate),
        threshold=eer_a.threshold,
        flips=[str(identity) for identity in trials.ids[flips]],
        subsets=subset_counts({name: column[rows] for name, column in labels.columns.items()}),
        intervals=_paired_intervals(a, b, bonafide, resampling, clusters),
    )


def _paired_intervals(
    a: np.ndarray, b: np.ndarray, bonafide: np.ndarray, resampling: Resampling, clusters: np.ndarray | None
) -> PairedIntervals | None:
    if not resampling.resamples:
        return None
    eer_a, eer_b = (
        bootstrap_intervals(scores, bonafide, ("eer",), resampling, clusters)["eer_percent"] for scores in (a, b)
    )
    difference = metrics.bootstrap_difference(
        a,
        b,
        bonafide,
        ("eer",),
        resamples=resampling.resamples,
        seed=resampling.seed,
        clusters=clusters,
        confidence=CONFIDENCE,
    )["eer"]
    return PairedIntervals(eer_a, eer_b, in_percent(difference), resampling)


def _worst(trials: _Trials, unexplained: np.ndarray) -> list[TrialDifference]:
    """The largest differences above 0, unexplained ones first."""
    size, gaps = np.abs(trials.differences), trials.rank_gaps
    rows = [int(row) for row in np.lexsort((-size, ~unexplained))[:WORST] if size[row] > 0]
    return [
        TrialDifference(
            utterance_id=str(trials.ids[row]),
            a=float(trials.scores_a[row]),
            b=float(trials.scores_b[row]),
            difference=float(trials.differences[row]),
            smallest_rank_gap=float(gaps[row]) if np.isfinite(gaps[row]) else None,
            rank_gap_pool=trials.pool(row),
            unexplained=bool(unexplained[row]),
        )
        for row in rows
    ]
