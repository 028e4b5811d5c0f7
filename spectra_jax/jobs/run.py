"""A bulk scoring run: its trials, its scorer and its folder; scores the parts that are missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from spectra_jax.data.sources import Trials
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError, SkipLimitError
from spectra_jax.inference.results import Result
from spectra_jax.inference.scorer import ScoringProgress
from spectra_jax.inference.timing import StageTimer
from spectra_jax.inference.windows import FIRST_WINDOW, WindowPolicy
from spectra_jax.jobs import inputs, merge, parts
from spectra_jax.jobs.record import open_record
from spectra_jax.jobs.store import Store
from spectra_jax.messages import count


@dataclass(frozen=True)
class Part:
    """A part that was written.

    Attributes:
      number: from 0.
      trials, skipped: how many it has.
      stage_seconds: seconds spent on it, by stage: waiting for "listing", "decoding" and "device", "writing", and
        "python" for all else.
    """

    number: int
    trials: int
    skipped: int
    stage_seconds: Mapping[str, float]


class TrialScorer(Protocol):
    """The methods of a `spectra_jax.Scorer` that a run calls."""

    @property
    def source(self) -> object: ...

    def identity(self) -> dict[str, Any]: ...

    def score_trials(
        self,
        trials: Iterable[Trial],
        *,
        window_policy: WindowPolicy,
        flush_every: int | None,
        timer: StageTimer | None,
        on_progress: Callable[[ScoringProgress], None] | None,
    ) -> Generator[Result]: ...


class BulkRun:
    """A run in a folder: a new one, or one that is resumed. Iterating scores the missing parts.

    Args:
      store: the run's folder; new, empty, or that of the same run.
      trials: what to score.
      scorer: scores them.
      part_size: trials of one part, rounded up to whole batches.
      window_policy: see `Scorer.score_trials`.
      process: (index from 0, number) of the processes that share the run: each scores an equal range of the parts.
      max_errors: stop once more trials than this could not be scored, counting all completed parts (other processes'
        parts as they are when this process starts) and the parts that are scored now.
      accept_changed: whether inputs may have changed since the run was started: parts with such inputs are scored
        again.
      command: words of the command that resumes the run, for its record.
      escape_ids: of the score file, see `spectra_jax.inference.results.write`.

    Attributes:
      on_progress: called while parts are scored, with the trials and windows that this process has scored so far.
      digest: identifies the run; all its files carry it.

    Raises:
      InputError: the folder holds other files, or another run: what differs is named. Or inputs have changed.
    """

    def __init__(
        self,
        store: Store,
        trials: Trials,
        scorer: TrialScorer,
        *,
        part_size: int = 1000,
        window_policy: WindowPolicy = FIRST_WINDOW,
        process: tuple[int, int] = (0, 1),
        max_errors: int | None = None,
        accept_changed: bool = False,
        command: Sequence[str] = (),
        escape_ids: bool = False,
    ):
        _check_process(*process)
        if not escape_ids:
            # Now, not when the score file is written.
            trials.require_plain_ids()
        self.store, self.trials = store, trials
        self.scorer, self.window_policy = scorer, window_policy
        self.on_progress: Callable[[ScoringProgress], None] | None = None
        self._escape_ids, self._process, self._max_errors = escape_ids, process, max_errors
        self._progress = ScoringProgress(0, 0)
        scorer_identity = scorer.identity()
        batch_size: int = scorer_identity["batch_size"]
        self.part_size = parts.in_whole_batches(part_size, batch_size)
        identity = {
            **scorer_identity,
            "windows": window_policy.identity(),
            "part_size": self.part_size,
            "input": {"trials": len(trials), "sha256": trials.digest},
        }
        # Remove the unfinished files of writers that were killed. Files that other processes are writing stay.
        for folder in ("", parts.FOLDER, parts.REPLACED):
            store.sweep(folder)
        self.digest = open_record(store, identity, model=str(scorer.source), command=command)
        self._inputs = inputs.open_record(store, trials, self.digest, self.part_size, accept_changed=accept_changed)
        self._completed = parts.CompletedParts(store, self.digest, self.num_parts, self._inputs.stamps)

    @property
    def num_parts(self) -> int:
        """How many parts the run has."""
        return -(-len(self.trials) // self.part_size)

    def num_trials(self, part: int) -> int:
        """How many trials a part has."""
        return min(self.part_size, len(self.trials) - part * self.part_size)

    @property
    def unusable(self) -> Mapping[int, str]:
        """What is wrong with the parts that have a file and must be scored again, by their numbers."""
        return self._completed.unusable

    def missing(self) -> list[int]:
        """The parts that are not complete, of all processes."""
        return self._completed.missing()

    def pending(self) -> list[int]:
        """The missing parts that this process scores: those in its range of the parts."""
        index, processes = self._process
        return [part for part in self.missing() if part * processes // self.num_parts == index]

    def completed(self, part: int) -> Part:
        """A part that `missing` found to be complete."""
        return Part(part, self.num_trials(part), self._completed.skipped[part], {})

    def __iter__(self) -> Iterator[Part]:
        """Score this process's missing parts, in order. Iteration may stop at any time: completed parts stay.

        Raises:
          SkipLimitError: see `max_errors`.
          OSError: a part cannot be written; those before it are complete.
        """
        return self.limit_skips(self.score_parts(self.pending()))

    def score_parts(self, numbers: Iterable[int]) -> Generator[Part]:
        """Score and write the parts with these numbers, ascending, whether they are complete or not."""
        for first, stop in _ranges(numbers):
            timer = StageTimer()
            results = self.scorer.score_trials(
                islice(self.trials.iterate(first * self.part_size), (stop - first) * self.part_size),
                window_policy=self.window_policy,
                flush_every=self.part_size,
                timer=timer,
                on_progress=None if self.on_progress is None else self._totalled(self.on_progress),
            )
            with closing(results):
                for part in range(first, stop):
                    yield self._write_part(part, results, timer)

    def _totalled(self, report: Callable[[ScoringProgress], None]) -> Callable[[ScoringProgress], None]:
        """A callback for the progress of one range, which reports that of this process."""
        before = self._progress

        def report_total(now: ScoringProgress) -> None:
            self._progress = ScoringProgress(before.trials + now.trials, before.windows + now.windows)
            report(self._progress)

        return report_total

    def _write_part(self, part: int, results: Iterator[Result], timer: StageTimer) -> Part:
        start, waited_before = time.monotonic(), dict(timer.seconds)
        found = list(islice(results, self.num_trials(part)))
        if len(found) < self.num_trials(part):
            raise InputError(
                f"part {part}: {count(self.num_trials(part), 'trial')} listed, and {len(found)} found. Did the input "
                "change?"
            )
        inputs.check_unchanged((result.trial for result in found), self._inputs.stamps(part), self.store.root)
        rows = [parts.row(index, result) for index, result in enumerate(found, start=part * self.part_size)]
        scored = time.monotonic()
        if part in self.unusable:
            parts.keep_copy(self.store, part)
        parts.write_part(self.store, part, self.digest, rows)
        end = time.monotonic()
        seconds = {stage: total - waited_before[stage] for stage, total in timer.seconds.items()}
        seconds["writing"] = end - scored
        seconds["python"] = max(end - start - sum(seconds.values()), 0.0)
        return Part(part, len(rows), sum(result.error is not None for result in found), seconds)

    def limit_skips(self, scored: Iterable[Part]) -> Iterator[Part]:
        """Yield parts as they are scored, here or by a cluster, until more than `max_errors` trials were skipped.

        Raises:
          SkipLimitError: more were skipped, perhaps in the parts that were completed before.
        """
        self.missing()
        skipped = sum(self._completed.skipped.values())
        self._check_skips(skipped)
        for part in scored:
            yield part
            skipped += part.skipped
            self._check_skips(skipped)

    def _check_skips(self, skipped: int) -> None:
        if self._max_errors is not None and skipped > self._max_errors:
            raise SkipLimitError(
                f"{count(skipped, 'trial')} could not be scored, more than the {self._max_errors} allowed; "
                f"their reasons are in the column `error` of {self.store.path(parts.FOLDER)}"
            )

    def merge(self) -> tuple[int, int]:
        """Write the score file of all parts, in input order.

        Returns:
          How many trials it has, and how many were skipped.

        Raises:
          InputError: parts are missing.
        """
        if missing := self.missing():
            raise InputError(f"{count(len(missing), 'part')} of {self.num_parts} still to be scored")
        return merge.write_scores(self.store, self.num_parts, escape_ids=self._escape_ids)

    def skip_reasons(self, limit: int) -> list[tuple[str, str]]:
        """The first few skipped trials, at most `limit`: their ids and the reasons."""
        return merge.skip_reasons(self.store, self.num_parts, limit)


def _check_process(index: int, processes: int) -> None:
    if not 0 <= index < processes:
        raise InputError(f"process {index} of {processes}: numbers from 0 to {processes - 1} are expected")


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ranges (first, stop) of ascending numbers without a gap."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] = number + 1
        else:
            ranges.append([number, number + 1])
    return ((first, stop) for first, stop in ranges)
