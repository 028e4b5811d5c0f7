"""The sections of the page, one function each: its tables and charts, or the reason why it has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from spectra_jax.evaluation.compare import Comparison
from spectra_jax.evaluation.evaluate import Evaluation
from spectra_jax.messages import count
from spectra_jax.reporting import curves
from spectra_jax.reporting.charts.attacks import attack_bars, attack_strips
from spectra_jax.reporting.charts.chart import Chart, Key
from spectra_jax.reporting.charts.det import det
from spectra_jax.reporting.charts.differences import differences
from spectra_jax.reporting.charts.histogram import histogram
from spectra_jax.reporting.charts.reliability import reliability
from spectra_jax.reporting.charts.roc import roc
from spectra_jax.reporting.charts.scatter import gap_scatter, score_scatter
from spectra_jax.reporting.clips import ClipLength
from spectra_jax.reporting.hints import evaluation_hints
from spectra_jax.reporting.provenance import origin_rows
from spectra_jax.reporting.review import TrialToReview
from spectra_jax.reporting.systems import ATTACK, System

_PACKAGES = ("spectra-jax", "jax", "flax", "numpy", "scipy", "soundfile", "altair", "vl-convert-python")
# Attributes of an evaluation, their names on the page, and decimals.
_METRICS = (
    ("eer_percent", "EER, %", 3),
    ("threshold", "threshold of the EER", 6),
    ("rocch_eer_percent", "EER of the ROC's convex hull, %", 3),
    ("auc", "AUC", 4),
    ("min_dcf", "minDCF", 4),
    ("act_dcf", "actDCF", 4),
    ("cllr", "Cllr, bits", 4),
    ("min_cllr", "minCllr, bits", 4),
)


@dataclass(frozen=True)
class Table:
    """A table of text."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
      anchor: its fragment in the page's address.
      title: of the section.
      lead: what it shows, in a sentence; or why it shows nothing.
      verdict: a sentence that the page has at its top, and whether it is good news.
      tables, charts, trials: what it shows.
    """

    anchor: str
    title: str
    lead: str = ""
    verdict: tuple[str, bool] | None = None
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    trials: Sequence[TrialToReview] = ()

    @property
    def empty(self) -> bool:
        return not (self.tables or self.charts or self.trials)


@dataclass(frozen=True)
class _Evaluated:
    """A system with trials of both classes."""

    system: System
    key: Key
    evaluation: Evaluation


def _evaluated(systems: Sequence[System], keys: Sequence[Key]) -> list[_Evaluated]:
    return [
        _Evaluated(system, key, system.evaluation)
        for system, key in zip(systems, keys, strict=True)
        if system.evaluation is not None
    ]


def _why_no_error_rates(systems: Sequence[System]) -> str:
    labelled = [system.bonafide for system in systems if system.bonafide is not None]
    if not labelled:
        return "No labels were given, so there are no error rates: give them with --labels."
    only = "bona fide" if labelled[0].all() else "spoofed"
    return f"All labelled trials are {only}: error rates need both classes."


def metrics_section(systems: Sequence[System], keys: Sequence[Key]) -> Section:
    evaluations = [one.evaluation for one in _evaluated(systems, keys)]
    if not evaluations:
        return Section("metrics", "Metrics", lead=_why_no_error_rates(systems))
    rows = [[shown, *(_metric(one, name, digits) for one in evaluations)] for name, shown, digits in _METRICS]
    rows += [
        ["bona fide trials", *(f"{one.n_bonafide:,}" for one in evaluations)],
        ["spoofed trials", *(f"{one.n_spoof:,}" for one in evaluations)],
        ["skipped", *(f"{one.n_skipped:,}" for one in evaluations)],
    ]
    table = Table("Metrics of each system", ["", *(one.name for one in evaluations)], rows)
    return Section("metrics", "Metrics", lead=_metrics_lead(evaluations), tables=[table])


def _metric(evaluation: Evaluation, name: str, digits: int) -> str:
    interval = evaluation.intervals.get(name)
    shown = f"{getattr(evaluation, name):.{digits}f}"
    return shown if interval is None else f"{shown} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _metrics_lead(evaluations: Sequence[Evaluation]) -> str:
    first = evaluations[0]
    sentences = [
        "The EER is the Speech Anti-Spoofing Arena's, of scores rounded to six decimals. DCF: prior of a spoof "
        f"{first.costs.spoof_prior:g}, cost of a miss {first.costs.miss:g}, of a false alarm "
        f"{first.costs.false_alarm:g}; actDCF and Cllr take scores as log-likelihood ratios."
    ]
    if first.resampling.resamples:
        resampling = f"{first.resampling.resamples:,} resamples of trials, seed {first.resampling.seed}"
        sentences.append(f"In brackets: 95 % intervals, {resampling}.")
    if len(first.subsets) > 1:
        subsets = ", ".join(f"{name} ({number:,})" for name, number in first.subsets.items())
        sentences.append(f"Pooled subsets: {subsets}.")
    return " ".join([*sentences, *(hint for one in evaluations for hint in evaluation_hints(one))])


def error_rates_section(systems: Sequence[System], keys: Sequence[Key]) -> Section:
    evaluated = _evaluated(systems, keys)
    if not evaluated:
        return Section("curves", "Error rates", lead=_why_no_error_rates(systems))
    evaluations, own_keys = [one.evaluation for one in evaluated], [one.key for one in evaluated]
    found = [
        curves.curve(
            one.scores[one.bonafide],
            one.scores[~one.bonafide],
            resamples=one.resampling.resamples,
            seed=one.resampling.seed,
        )
        for one in evaluations
    ]
    drawn = [det(evaluations, own_keys, found), roc(evaluations, own_keys, found)]
    return Section("curves", "Error rates", charts=drawn)


def scores_section(systems: Sequence[System]) -> Section:
    return Section("scores", "Scores", "Higher means more bona fide.", charts=[histogram(one) for one in systems])


def attacks_section(systems: Sequence[System], keys: Sequence[Key]) -> Section:
    evaluated = _evaluated(systems, keys)
    if not evaluated:
        return Section("attacks", "Attacks", lead=_why_no_error_rates(systems))
    with_attacks = [one for one in evaluated if one.system.attacks is not None]
    if not with_attacks:
        lead = "No trial has an attack: give labels or score files with a column `attack`."
        return Section("attacks", "Attacks", lead=lead)
    grouped = [one for one in with_attacks if one.evaluation.groups.get(ATTACK)]
    bars = attack_bars([one.key for one in grouped], [one.evaluation.groups[ATTACK] for one in grouped])
    return Section("attacks", "Attacks", charts=[bars, *(attack_strips(one.system) for one in with_attacks)])


def calibration_section(systems: Sequence[System], keys: Sequence[Key]) -> Section:
    evaluated = _evaluated(systems, keys)
    if not evaluated:
        return Section("calibration", "Calibration", lead=_why_no_error_rates(systems))
    lead = "Whether scores are log-likelihood ratios, with both classes weighted equally."
    drawn = reliability([one.system for one in evaluated], [one.key for one in evaluated])
    return Section("calibration", "Calibration", lead, charts=drawn)


def comparison_section(systems: Sequence[System], comparisons: Sequence[Comparison]) -> Section:
    if not comparisons:
        return Section("comparison", "Comparison", lead="One system only: give several score files to compare them.")
    first = systems[0]
    drawn = []
    for comparison in comparisons:
        drawn += [score_scatter(comparison, _classes(first, comparison)), differences(comparison)]
    return Section(
        "comparison",
        "Comparison",
        lead=f"Trial by trial against {first.name}.",
        verdict=(comparisons[0].verdict, comparisons[0].agrees) if len(comparisons) == 1 else None,
        tables=[_differences_table(comparisons)],
        charts=drawn,
    )


def _classes(system: System, comparison: Comparison) -> np.ndarray | None:
    """Which of a comparison's trials are bona fide, (n,) bool; None without labels."""
    if system.bonafide is None:
        return None
    bonafide = dict(zip(system.scores.utterance_ids, system.bonafide, strict=True))
    return np.array([bonafide[identity] for identity in comparison.utterance_ids], bool)


def _differences_table(comparisons: Sequence[Comparison]) -> Table:
    rows: list[list[str]] = []

    def add(name: str, cell: Callable[[Comparison], str]) -> None:
        cells = [cell(one) for one in comparisons]
        if any(cells):
            rows.append([name, *cells])

    add("trials", lambda one: f"{len(one.utterance_ids):,}")
    add("largest |difference|", lambda one: f"{one.max_difference:.3g}")
    add("mean |difference|", lambda one: f"{one.mean_difference:.3g}")
    for name in comparisons[0].quantiles:
        add(f"{100 * float(name):g} % are at most", partial(_quantile, name))
    add("mean difference", lambda one: f"{one.bias:+.3g}")
    add("Pearson", lambda one: _correlation(one.pearson))
    add("Spearman", lambda one: _correlation(one.spearman))
    add(f"beyond the tolerance of {comparisons[0].tolerance:g}", lambda one: f"{one.n_beyond_tolerance:,}")
    add("of these, explained by a near tie", lambda one: f"{one.n_explained:,}")
    add("unexplained", lambda one: f"{one.n_unexplained:,}")
    add("decisions that flip", lambda one: "" if one.error_rates is None else f"{len(one.error_rates.flips):,}")
    add("EER difference, points", _eer_difference)
    if len(comparisons) > 1:
        add("verdict", lambda one: one.verdict)
    head = ["", *(f"{one.name_a} minus {one.name_b}" for one in comparisons)]
    return Table("Differences, paired by trial", head, rows)


def _quantile(name: str, comparison: Comparison) -> str:
    return f"{comparison.quantiles[name]:.3g}"


def _correlation(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _eer_difference(comparison: Comparison) -> str:
    if comparison.error_rates is None:
        return ""
    intervals = comparison.error_rates.intervals
    shown = f"{comparison.error_rates.eer_difference_percent:+.3f}"
    if intervals is None:
        return shown
    return f"{shown} ({intervals.difference.low:+.3f} to {intervals.difference.high:+.3f})"


def near_ties_section(comparisons: Sequence[Comparison]) -> Section:
    with_gaps = [comparison for comparison in comparisons if comparison.n_with_gap]
    if not with_gaps:
        missing = "No score file has rank gaps (score with --diagnostics)" if comparisons else "Two systems are needed"
        lead = f"{missing} to separate differences that near ties explain from others."
        return Section("parity", "Near ties", lead=lead)
    lead = (
        "The network ranks graph nodes. Where two nearly tie, rounding can swap them and the score jumps, in a correct "
        "implementation as in a faulty one: such differences are explained, if they are as rare as rounding makes them "
        "and have no common sign. All others are the systems' own."
    )
    title = "Differences against rank gaps"
    titles = [title] if len(with_gaps) == 1 else [f"{title}: {one.name_b}" for one in with_gaps]
    drawn = [gap_scatter(comparison, title) for comparison, title in zip(with_gaps, titles, strict=True)]
    return Section("parity", "Near ties", lead=lead, charts=drawn)


def trials_section(systems: Sequence[System], trials: Sequence[TrialToReview], length: ClipLength) -> Section:
    if not trials:
        return Section("trials", "Trials", "No errors at the threshold of the EER, and no differences.")
    evaluated = any(system.evaluation for system in systems)
    listed = "the most confident errors at the threshold of the EER" if evaluated else "the highest and lowest scores"
    lead = f"{count(len(trials), 'trial')} to review: {listed}"
    lead += ", and the largest differences." if len(systems) > 1 else "."
    if clips := sum(trial.clip is not None for trial in trials):
        lead += (
            f" {count(clips, 'clip')} can be played, as decoded for the network at 16 kHz: at most the first "
            f"{length.seconds:.2f} s, {length.reason}."
        )
    else:
        lead += " Their audio was not found: name its folder with --audio-root."
    return Section("trials", "Trials", lead, trials=trials)


def provenance_section(systems: Sequence[System], digests: Mapping[str, str], command: Sequence[str]) -> Section:
    """The origin of the page: `digests` are sha256 sums of the model's files by name."""
    found = [[f"sha256 of {system.path.name}", system.sha256] for system in systems]
    found += [[f"sha256 of {name} (model)", digest] for name, digest in digests.items()]
    if not digests:
        found.append(["sha256 of the model", "not given (--model)"])
    rows = origin_rows(command, _PACKAGES, *found)
    return Section("provenance", "Provenance", tables=[Table("Origin of this page", ["what", "value"], rows)])
