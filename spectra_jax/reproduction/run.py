"""Reproduce the reported EERs: prepare, score and evaluate one dataset after another."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Protocol

from spectra_jax.arena.reported import REPORTED
from spectra_jax.data.sources import Trials
from spectra_jax.errors import InputError, SpectraError
from spectra_jax.files.outputs import output_file, require_writable
from spectra_jax.inference.scorer import Scorer
from spectra_jax.jobs import BulkRun, Part, Store
from spectra_jax.jobs.scoring import RunSummary, score_to_run
from spectra_jax.messages import on_one_line
from spectra_jax.reproduction.plan import Plan, make_plan
from spectra_jax.reproduction.prepare import Prepared, check_disk_limit, prepare, split_name
from spectra_jax.reproduction.results import Reproduction, evaluate_dataset, failed
from spectra_jax.reproduction.settings import Settings
from spectra_jax.reproduction.shards import ShardCache
from spectra_jax.reproduction.source import StreamedDataset

RESULTS = "reproduction.json"
_PACKAGES = ("spectra-jax", "jax", "jaxlib", "numpy", "scipy")


class Observer(Protocol):
    """Is called as a reproduction proceeds."""

    def on_message(self, message: str) -> None:
        """A message about the compilation cache."""

    def on_plan(self, plan: Plan) -> bool:
        """The plan, before anything is scored. False ends the reproduction."""

    def on_run(self, dataset: str, run: BulkRun) -> Callable[[Part], None]:
        """A dataset's run, before its missing parts are scored. Returns what is called after each part."""

    def on_summary(self, dataset: str, summary: RunSummary) -> None:
        """A dataset's run is complete."""

    def on_problem(self, dataset: str, problem: str) -> None:
        """A dataset could not be prepared or scored; the others are."""


class SilentObserver:
    """Ignores what happens. The problems are in the figures too."""

    def on_message(self, message: str) -> None: ...

    def on_plan(self, plan: Plan) -> bool:
        return True

    def on_run(self, dataset: str, run: BulkRun) -> Callable[[Part], None]:
        return lambda part: None

    def on_summary(self, dataset: str, summary: RunSummary) -> None: ...

    def on_problem(self, dataset: str, problem: str) -> None: ...


SILENT = SilentObserver()


def reproduce(settings: Settings, names: Sequence[str] = (), *, observer: Observer = SILENT) -> Reproduction | None:
    """Reproduce the reported EERs. A dataset that cannot be scored costs its own row only.

    Args:
      settings: what is scored, and how.
      names: `NAME` or `NAME@REVISION` of datasets for which an EER is reported; by default all.
      observer: is called as the reproduction proceeds.

    Returns:
      The figures, which are also written to `reproduction.json`; None where the observer ended it after the plan.

    Raises:
      InputError: an unknown dataset, one that is given twice, or a folder that cannot be written.
      HubError, CheckpointError, ...: the model cannot be loaded.
    """
    asked = dict(pairs := [split_name(name) for name in names or REPORTED])
    if len(asked) < len(pairs):
        raise InputError(f"{' '.join(names)}: give each dataset once; two revisions of one need two --output")
    require_writable(settings.folder / RESULTS)
    cache = ShardCache(settings.disk_limit)
    prepared: list[Prepared] = []
    problems: dict[str, str] = {}

    def note_problem(name: str, error: Exception) -> None:
        problems[name] = on_one_line(error)
        observer.on_problem(name, problems[name])

    for name, revision in asked.items():
        try:
            prepared.append(prepare(name, revision, settings, cache))
        except (SpectraError, OSError) as error:
            note_problem(name, error)
    speed = None
    if prepared and settings.score:
        scorer = settings.scorer.load(report=observer.on_message)
        plan = make_plan(prepared, scorer, settings.part_size)
        speed = plan.clips_per_second
        if not observer.on_plan(plan):
            return None
        for one in prepared:
            try:
                _score(one, settings, scorer, cache, observer)
            except (SpectraError, OSError) as error:
                note_problem(one.name, error)
    results = {name: failed(name, revision, problems.get(name, "")) for name, revision in asked.items()}
    for one in prepared:
        try:
            results[one.name] = evaluate_dataset(one, settings, problems.get(one.name))
        except (SpectraError, OSError) as error:
            note_problem(one.name, error)
            results[one.name] = failed(one.name, one.record.commit, problems[one.name])
    reproduction = Reproduction(list(results.values()), _provenance(settings), speed)
    if not reproduction.empty:
        with output_file(settings.folder / RESULTS) as file:
            file.write((json.dumps(reproduction.to_dict(), indent=1) + "\n").encode())
    return reproduction


def _score(prepared: Prepared, settings: Settings, scorer: Scorer, cache: ShardCache, observer: Observer) -> None:
    """Score the trials of a dataset that are not scored yet.

    Raises:
      SpectraError: a shard cannot be fetched or read, or is not that of the labels.
      OSError: a part cannot be written.
    """
    record = prepared.record
    if settings.disk_limit is not None:
        # At most so many trials are read whose scores are not on the disk.
        check_disk_limit(prepared, settings.disk_limit, settings.part_size + 4 * scorer.batch_size)
    source = StreamedDataset(record, prepared.labels, cache)
    run = BulkRun(Store(prepared.run_folder), Trials([source]), scorer, part_size=settings.part_size, command=sys.argv)
    report = observer.on_run(prepared.name, run)
    last = time.monotonic()

    def on_part(part: Part) -> None:
        nonlocal last
        now = time.monotonic()
        record.add_seconds(now - last)
        last = now
        missing = run.missing()
        source.delete_scored(missing[0] * run.part_size if missing else len(run.trials))
        report(part)

    try:
        summary = score_to_run(run, on_part=on_part)
        source.delete_scored(len(run.trials))
    finally:
        cache.release(record)
    observer.on_summary(prepared.name, summary)


def _provenance(settings: Settings) -> dict[str, Any]:
    """What the figures depend on besides the datasets and their runs, as plain values."""
    return {
        "sample": settings.sample,
        "seed": settings.seed,
        "resamples": settings.resamples,
        "mine": None if settings.mine is None else str(settings.mine),
        "bench_version": settings.bench_version,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }
