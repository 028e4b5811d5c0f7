"""The figures of a reproduction: EERs with their intervals, and how far they are from those that are reported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from spectra_jax.arena.reported import REPORTED, tolerance_of
from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores, read_scores
from spectra_jax.errors import InputError, MetricError
from spectra_jax.evaluation.compare import compare
from spectra_jax.evaluation.evaluate import Resampling, bootstrap_intervals, evaluate
from spectra_jax.evaluation.metrics import Interval
from spectra_jax.hub import PUBLISHED_SHA256, WEIGHTS
from spectra_jax.inference.identity import RUN
from spectra_jax.jobs.parts import SCHEMA, existing_parts, read_part
from spectra_jax.jobs.store import Store
from spectra_jax.messages import count, on_one_line
from spectra_jax.model.rank_gap import GAP_BOUND
from spectra_jax.reproduction.prepare import Prepared
from spectra_jax.reproduction.settings import Settings

_MINE = ("{}.txt", "{}.csv", "{}.tsv", "{}.jsonl", "{}.parquet", "{}/scores.txt")
_MOST_SKIPPED = 0.05
_COLUMNS = ["utterance_id", "score", "stamp", "error", "smallest_rank_gap"]


@dataclass(frozen=True)
class SystemFigures:
    """A system on the trials of a dataset.

    Attributes:
      eer_percent: of the trials that have a score.
      interval: of the EER, 95 %, in percent.
      difference: the EER minus the expected one, in percentage points; see `DatasetResult.expected`. None where that is
        unknown.
      num_trials: with a score.
      num_without_score: trials without one.
    """

    eer_percent: float
    interval: Interval
    difference: float | None
    num_trials: int
    num_without_score: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "interval": [self.interval.low, self.interval.high]}


@dataclass(frozen=True)
class DatasetResult:
    """A dataset's figures. What could not be computed is None.

    Attributes:
      dataset: its name.
      revision: its commit; where that could not be found out, the revision that was asked for.
      reported: EER in percent, as it is printed.
      recomputed: EER in percent of the published scores, on the trials that are scored here.
      expected: the EER that ours is compared with: the reported one, or for a sample the recomputed one.
      ours, mine: the network's figures, and those of the user's own system.
      near_ties: trials of ours with a rank gap below the bound, whose scores rounding may change.
      weights_sha256: of the network that scored.
      scored_with: the model's name, precision, batch size and whether near ties were certified, as the run states them.
      agreement: the verdict of `spectra_jax.compare` on our scores and the published ones.
      hours: spent on scoring, in all sessions together.
      reproduced: whether the expected EER is in the interval of ours, and there is no problem.
      problem: why there are no figures of ours, why they are of an earlier run, or that too many trials have no score.
      notes: what else the user has to know, a sentence each.
    """

    dataset: str
    revision: str
    reported: str
    recomputed: float | None = None
    expected: float | None = None
    ours: SystemFigures | None = None
    mine: SystemFigures | None = None
    near_ties: int | None = None
    weights_sha256: str | None = None
    scored_with: Mapping[str, Any] | None = None
    agreement: str | None = None
    hours: float | None = None
    reproduced: bool = False
    problem: str | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {name: system and system.to_dict() for name, system in (("ours", self.ours), ("mine", self.mine))}
        return {**asdict(self), **figures, "notes": list(self.notes)}


@dataclass(frozen=True)
class Reproduction:
    """The figures of all datasets.

    Attributes:
      results: one for each dataset that was asked for.
      provenance: of the figures, as plain values: sample, seed, versions.
      clips_per_second: of the network alone; None where nothing was to be scored.
    """

    results: Sequence[DatasetResult]
    provenance: Mapping[str, Any]
    clips_per_second: float | None = None

    @property
    def passed(self) -> bool:
        """Whether all datasets were reproduced without a problem."""
        return all(result.reproduced for result in self.results)

    @property
    def other_weights(self) -> bool:
        """Whether a dataset was scored with other weights than the published ones, of which the EERs are reported."""
        known = {result.weights_sha256 for result in self.results} - {None}
        return bool(known - {PUBLISHED_SHA256[WEIGHTS]})

    @property
    def empty(self) -> bool:
        """Whether there is no figure of any system."""
        return all(result.ours is None and result.mine is None for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.provenance,
            "clips_per_second": self.clips_per_second,
            "passed": self.passed,
            "datasets": [result.to_dict() for result in self.results],
        }


@dataclass(frozen=True)
class RunScores:
    """The scores in a run's folder.

    Attributes:
      scores: with the columns of rank gaps and stamps.
      weights_sha256: of the network.
      scored_with: see `DatasetResult`.
      num_missing_parts, num_parts: how many parts are not scored yet, of how many.
    """

    scores: Scores
    weights_sha256: str
    scored_with: Mapping[str, Any]
    num_missing_parts: int
    num_parts: int


def failed(name: str, revision: str, problem: str) -> DatasetResult:
    """The result of a dataset that could not be scored."""
    return DatasetResult(name, revision, REPORTED[name][0], problem=problem)


def evaluate_dataset(prepared: Prepared, settings: Settings, problem: str | None = None) -> DatasetResult:
    """The figures of a dataset, from its run and the files of other systems.

    Args:
      prepared: the dataset.
      settings: of the bootstrap; with the user's own scores.
      problem: why its run is not complete.

    Raises:
      InputError: a part of the run is damaged.
      MetricError: the trials are of one class.
    """
    reported, _ = REPORTED[prepared.name]
    sampled = prepared.record.sample is not None
    labels = _labels_of_sample(prepared)
    recomputed, notes_on_published = _recompute(prepared.published, labels)
    expected = recomputed if sampled else float(reported)
    notes = [*prepared.notes, *notes_on_published]
    if not sampled:
        notes += _benchmark_differs(prepared, recomputed)
    run = _read_run(prepared.run_folder, prepared.num_trials)
    if run is not None:
        _check_same_trials(prepared, run.scores, labels)
    ours = None
    if run is None:
        problem = problem or "not scored yet"
    elif run.num_missing_parts:
        num_scored = run.num_parts - run.num_missing_parts
        scored = f"{num_scored:,} of {count(run.num_parts, 'part')} scored; the same command resumes the run"
        problem = scored if problem is None else f"{problem} ({scored})"
    else:
        ours = _figures(run.scores, labels, expected, settings)
        if ours.num_without_score > _MOST_SKIPPED * len(labels.utterance_ids):
            # An EER of what is left may agree by chance.
            problem = problem or (
                f"{count(ours.num_without_score, 'trial')} of {len(labels.utterance_ids):,} could not be scored; the "
                "Arena's tool ends a run with more than 5 %"
            )
    mine = None
    try:
        scores = None if settings.mine is None else _read_mine(settings.mine, prepared.name)
        mine = None if scores is None else _figures(scores, labels, expected, settings)
    except (InputError, MetricError) as error:
        notes.append(on_one_line(error))
    tolerance = tolerance_of(reported)
    return DatasetResult(
        dataset=prepared.name,
        revision=prepared.record.commit,
        reported=reported,
        recomputed=recomputed,
        expected=expected,
        ours=ours,
        mine=mine,
        near_ties=None if run is None or ours is None else _count_near_ties(run.scores),
        weights_sha256=None if run is None else run.weights_sha256,
        scored_with=None if run is None else run.scored_with,
        agreement=None if ours is None or run is None else _agreement(run.scores, prepared.published),
        hours=prepared.record.seconds / 3600,
        reproduced=problem is None
        and ours is not None
        and expected is not None
        and _is_within(expected, ours.interval, tolerance),
        problem=problem,
        notes=tuple(notes),
    )


def _labels_of_sample(prepared: Prepared) -> Labels:
    """The labels of the trials that are scored."""
    labels, sample = prepared.labels, prepared.record.sample
    if sample is None:
        return labels
    ids = set(sample.utterance_ids)
    kept = np.array([str(identity) in ids for identity in labels.utterance_ids], bool)
    return Labels(labels.name, labels.utterance_ids[kept], labels.bonafide[kept])


def _recompute(published: Scores | None, labels: Labels) -> tuple[float | None, list[str]]:
    """The EER of the published scores in percent, None where there is none, and notes on them, a sentence each."""
    if published is None:
        return None, []
    try:
        found = evaluate(published, labels, common=True, resamples=0)
    except (InputError, MetricError) as error:
        return None, [f"the published scores give no EER: {on_one_line(error)}"]
    missing = len(labels.utterance_ids) - len(found.scores)
    notes = [f"{count(missing, 'trial')} of {len(labels.utterance_ids):,} without a published score"] if missing else []
    return found.eer_percent, notes


def _figures(scores: Scores, labels: Labels, expected: float | None, settings: Settings) -> SystemFigures:
    found = evaluate(scores, labels, common=True, resamples=0)
    resampling = Resampling(settings.resamples, settings.seed, None)
    intervals = bootstrap_intervals(found.scores, found.bonafide, ("eer",), resampling, None)
    num_trials = len(found.scores)
    return SystemFigures(
        eer_percent=found.eer_percent,
        interval=intervals["eer_percent"],
        difference=None if expected is None else found.eer_percent - expected,
        num_trials=num_trials,
        num_without_score=len(labels.utterance_ids) - num_trials,
    )


def _agreement(ours: Scores, published: Scores | None) -> str | None:
    """Whether our scores are the published ones, in a sentence; None where there are none of the same trials."""
    if published is None:
        return None
    try:
        return compare(ours, published, common=True, resamples=0).verdict
    except (InputError, MetricError):
        return None


def _is_within(expected: float, interval: Interval, tolerance: float) -> bool:
    return interval.low - tolerance <= expected <= interval.high + tolerance


def _benchmark_differs(prepared: Prepared, recomputed: float | None) -> list[str]:
    """How the dataset, or its published scores, differ from what the reported EER is of; a sentence each."""
    reported, num_reported = REPORTED[prepared.name]
    notes = []
    if (number := len(prepared.labels.utterance_ids)) != num_reported:
        notes.append(f"the dataset has {count(number, 'trial')}, where {num_reported:,} are reported")
    if recomputed is not None and abs(recomputed - float(reported)) > tolerance_of(reported):
        notes.append(
            f"the published scores give an EER of {recomputed:.4f} with these labels, where {reported} is reported"
        )
    return notes


def _read_run(folder: Path, num_trials: int) -> RunScores | None:
    """The scores in a run's folder; None where it was not started.

    Raises:
      InputError: its record or a part is damaged.
    """
    store = Store(folder)
    try:
        record = json.loads(store.read(RUN))
        identity = record["run"]
        part_size, weights_sha256 = int(identity["part_size"]), str(identity["weights_sha256"])
        scored_with = {"model": record["model"]} | {
            name: identity[name] for name in ("precision", "batch_size", "certify")
        }
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{store.path(RUN)}: is damaged ({error})") from error
    num_parts = -(-num_trials // part_size)
    existing = sorted(existing_parts(store) & set(range(num_parts)))
    empty = pa.schema([SCHEMA.field(name) for name in _COLUMNS]).empty_table()
    table = pa.concat_tables([empty, *(read_part(store, part, _COLUMNS) for part in existing)])
    scored = table.filter(table["score"].is_valid())
    skipped = table.filter(table["error"].is_valid())
    scores = Scores(
        "spectra-jax",
        np.array(scored["utterance_id"].to_pylist(), object),
        scored["score"].to_numpy(),
        {
            "smallest_rank_gap": scored["smallest_rank_gap"].to_numpy(),
            "stamp": np.array(scored["stamp"].to_pylist(), object),
        },
        dict(zip(skipped["utterance_id"].to_pylist(), skipped["error"].to_pylist(), strict=True)),
    )
    return RunScores(scores, weights_sha256, scored_with, num_parts - len(existing), num_parts)


def _check_same_trials(prepared: Prepared, scores: Scores, labels: Labels) -> None:
    """Check that a run's scores are of the trials of the labels, as they may not be where the record was removed.

    Raises:
      InputError: they are of another commit, or of another sample.
    """
    folder = prepared.run_folder
    commits = {str(stamp) for stamp in scores.columns["stamp"]} - {prepared.record.commit}
    if commits:
        raise InputError(
            f"{folder}: has scores of commit {min(commits)}, and the labels are of {prepared.record.commit}. Give "
            f"{prepared.name}@{min(commits)}, or another --output"
        )
    known = set(map(str, labels.utterance_ids))
    if others := [name for name in (*scores.utterance_ids, *scores.skipped) if name not in known]:
        raise InputError(
            f"{folder}: has scores of other trials than those that are asked for, such as {others[0]}. Give the same "
            "--sample and --seed as before, or another --output"
        )


def _count_near_ties(scores: Scores) -> int:
    gaps = scores.rank_gaps
    return 0 if gaps is None else int((gaps < GAP_BOUND).sum())


def _read_mine(folder: Path, name: str) -> Scores:
    """The user's own scores of a dataset.

    Raises:
      InputError: there is no score file of it, or it cannot be read.
    """
    for pattern in _MINE:
        if (path := folder / pattern.format(name)).is_file():
            return read_scores(path, folder.name)
    raise InputError(f"{folder} has no scores of {name}: {name}.txt or {name}/scores.txt is looked for")
