"""A bulk scoring run: what it is, which parts are done, the parts to come, and the score file at the end."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any, Protocol

import pyarrow.compute as pc

from spectra_jax.data.score_files import score_line
from spectra_jax.data.sources import Trials
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError, SkipLimitError, UnusableFileError
from spectra_jax.inference.identity import RUN, digest_of, encode_record, require_same
from spectra_jax.inference.results import Result
from spectra_jax.inference.scorer import FIRST_WINDOW, Listening, ScoringProgress, Waited
from spectra_jax.jobs import certified, inputs, parts
from spectra_jax.jobs.store import Store
from spectra_jax.messages import count, examples

SCORES = "scores.txt"
_PACKAGES = ("spectra-jax", "jax", "jaxlib", "flax", "numpy", "scipy", "soundfile", "av")


@dataclass(frozen=True)
class Part:
    """A part that was written.

    Attributes:
      number: from 0.
      trials, skipped: in it.
      spent: seconds that went into it: waiting for "listing", "decoding" and "device", "writing", all else "python".
    """

    number: int
    trials: int
    skipped: int
    spent: Mapping[str, float]


class TrialScorer(Protocol):
    """What a run needs of a `spectra_jax.Scorer`."""

    @property
    def source(self) -> object: ...

    def identity(self) -> dict[str, Any]: ...

    def score_trials(
        self,
        trials: Iterable[Trial],
        *,
        listening: Listening,
        flush_every: int,
        waited: Waited,
        on_progress: Callable[[ScoringProgress], None] | None,
    ) -> Generator[Result]: ...


class BulkRun:
    """A run in a folder, new or to be gone on with.

    Args:
      store: its folder; new, empty, or that of the same run.
      trials: what to score.
      scorer: what scores them.
      part_size: trials of one part, rounded up to whole batches.
      listening: see `Scorer.score_trials`.
      process: (which, of how many) processes share the run, from 0: each takes an equal stretch of it.
      max_errors: stop once more trials than this could not be scored, of those in all completed parts (other processes'
        parts count as they are when this process starts) and in the parts that are made now.
      accept_changed: whether inputs may have changed since the run was started: parts with such inputs are made again.
      command: words of the command, which the run repeats.
      escape_ids: of the score file, see `spectra_jax.inference.results.write`.

    Attributes:
      on_progress: called while parts are made here, with the trials and windows of all that this process made so far.
      unusable: what is wrong with parts that are there and have to be made again, by their numbers.

    Raises:
      InputError: the folder holds something else, or another run: what differs is named. Or inputs have changed.
    """

    def __init__(
        self,
        store: Store,
        trials: Trials,
        scorer: TrialScorer,
        *,
        part_size: int = 1000,
        listening: Listening = FIRST_WINDOW,
        process: tuple[int, int] = (0, 1),
        max_errors: int | None = None,
        accept_changed: bool = False,
        command: Sequence[str] = (),
        escape_ids: bool = False,
    ):
        self.store, self.trials = store, trials
        self.scorer, self.listening = scorer, listening
        self._escape_ids = escape_ids
        self._process, self._max_errors = process, max_errors
        if not escape_ids:
            # Now, not when the score file is written.
            trials.require_plain_ids()
        which, processes = process
        if not 0 <= which < processes:
            raise InputError(f"process {which} of {processes}: numbers from 0 to {processes - 1} are expected")
        scores = scorer.identity()
        batch = scores["batch_size"]
        self.part_size = -(-part_size // batch) * batch
        identity = {
            **scores,
            "windows": asdict(listening),
            "part_size": self.part_size,
            "input": {"trials": len(trials), "sha256": trials.digest},
        }
        self.digest = digest_of(identity)
        self.unusable: dict[int, str] = {}
        self.on_progress: Callable[[ScoringProgress], None] | None = None
        self._made = ScoringProgress(0, 0)
        # Parts that are whole, and how many of their trials were skipped.
        self._whole: dict[int, int] = {}
        # Of writers that were killed. What others write meanwhile stays.
        for folder in ("", parts.FOLDER, parts.REPLACED):
            store.sweep(folder)
        self._open(identity, command)
        self._inputs = self._open_inputs(accept_changed)

    def _open(self, identity: Mapping[str, Any], command: Sequence[str]) -> None:
        try:
            record = self.store.read(RUN)
        except FileNotFoundError:
            self._require_own_folder()
            known = {
                "run": identity,
                "model": str(self.scorer.source),
                "command": list(command),
                "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
                "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            # Another process may have started the run at the same time, and what it wrote counts.
            with suppress(FileExistsError):
                self.store.write(RUN, encode_record(known), replace=False)
            record = self.store.read(RUN)
        advice = ", or remove that file: the same command then resumes with its completed parts"
        require_same(record, identity, folder=self.store.root, key="run", advice=advice)

    def _require_own_folder(self) -> None:
        """See that a folder without a record is new, or that its parts are this run's."""
        numbers = [number for name in self.store.names(parts.FOLDER) if (number := parts.number_of(name)) is not None]
        # A score file without parts may be anyone's.
        known = (inputs.NAME, SCORES) if numbers else (inputs.NAME,)
        if others := [name for name in self.store.names() if name not in known and name != RUN]:
            raise InputError(
                f"{self.store.root}: holds other files and no {RUN}, such as {others[0]}; give a folder of its own"
            )
        unusable: UnusableFileError | None = None
        for number in numbers:
            try:
                certified.read(self.store, parts.name_of(number), self.digest)
                return
            except UnusableFileError as error:
                unusable = error
            except FileNotFoundError:
                continue
        if unusable is not None:
            raise InputError(f"{unusable}; and {self.store.root} has no {RUN}: give another folder")

    def _open_inputs(self, accept_changed: bool) -> inputs.Inputs:
        try:
            recorded = inputs.Inputs(self.store, self.digest)
        except (FileNotFoundError, UnusableFileError) as error:
            # Parts have the stamps of their own inputs: those with others are made again.
            with suppress(FileExistsError):
                self._write_inputs(replace=isinstance(error, UnusableFileError))
            return inputs.Inputs(self.store, self.digest)
        if recorded.digest == self.trials.stamps_digest:
            return recorded
        if not accept_changed and (changed := list(recorded.changed(self.trials.listed()))):
            raise InputError(
                f"{count(len(changed), 'input')} changed since {self.store.root} was started:{examples(changed)}\n"
                "Give another folder; or, with --accept-changed, the parts with such inputs are made again."
            )
        self._write_inputs(replace=True)
        return inputs.Inputs(self.store, self.digest)

    def _write_inputs(self, *, replace: bool) -> None:
        inputs.write(self.store, self.trials, self.digest, self.part_size, replace=replace)

    @property
    def num_parts(self) -> int:
        return -(-len(self.trials) // self.part_size)

    def trials_of(self, part: int) -> int:
        """How many trials a part has."""
        return min(self.part_size, len(self.trials) - part * self.part_size)

    def missing(self) -> list[int]:
        """Parts that are still to be made, of all processes."""
        there = {parts.number_of(name) for name in self.store.names(parts.FOLDER)}
        for part in range(self.num_parts):
            if part not in there or part in self._whole:
                continue
            try:
                skipped = parts.require_whole(self.store, part, self.digest, self._inputs.stamps(part))
            except FileNotFoundError:
                continue
            except UnusableFileError as error:
                self.unusable[part] = str(error)
            else:
                self._whole[part] = skipped
                self.unusable.pop(part, None)
        return [part for part in range(self.num_parts) if part not in self._whole]

    def own(self) -> list[int]:
        """Parts that this process has still to make: of one stretch of the input."""
        which, processes = self._process
        return [part for part in self.missing() if part * processes // self.num_parts == which]

    def __iter__(self) -> Iterator[Part]:
        """Make this process's missing parts, in order. Stopping is fine at any time: whole parts are kept.

        Raises:
          SkipLimitError: see `max_errors`.
          OSError: a part cannot be written; those before are whole.
        """
        return self.counted(part for first, last in stretches(self.own()) for part in self.make(first, last))

    def make(self, first: int, last: int) -> Generator[Part]:
        """Make the parts from `first` to before `last`, whether they are there or not."""
        results = self.scorer.score_trials(
            islice(self.trials.from_(first * self.part_size), (last - first) * self.part_size),
            listening=self.listening,
            flush_every=self.part_size,
            waited=(waited := Waited()),
            on_progress=None if self.on_progress is None else self._counting(self.on_progress),
        )
        with closing(results):
            for part in range(first, last):
                yield self._write(part, results, waited)

    def _counting(self, report: Callable[[ScoringProgress], None]) -> Callable[[ScoringProgress], None]:
        """What reports progress since this process began, where it is given progress since now."""
        before = self._made

        def count_all(now: ScoringProgress) -> None:
            self._made = ScoringProgress(before.trials + now.trials, before.windows + now.windows)
            report(self._made)

        return count_all

    def made(self, part: int) -> Part:
        """A part that is there, as `missing` has found."""
        return Part(part, self.trials_of(part), self._whole[part], {})

    def counted(self, made: Iterable[Part]) -> Iterator[Part]:
        """The same parts, wherever they are made, until `max_errors` is passed.

        Raises:
          SkipLimitError: it was, perhaps by the parts that were completed before.
        """
        self.missing()
        errors = sum(self._whole.values())
        self._require_few(errors)
        for part in made:
            yield part
            errors += part.skipped
            self._require_few(errors)

    def _require_few(self, errors: int) -> None:
        if self._max_errors is not None and errors > self._max_errors:
            raise SkipLimitError(
                f"{count(errors, 'trial')} could not be scored, more than the {self._max_errors} allowed; "
                f"their reasons are in the column `error` of {self.store.path(parts.FOLDER)}"
            )

    def _write(self, part: int, results: Iterator[Result], waited: Waited) -> Part:
        begun, before = time.monotonic(), dict(waited.seconds)
        first, number = part * self.part_size, self.trials_of(part)
        found = list(islice(results, number))
        rows = [parts.row(index, result) for index, result in enumerate(found, start=first)]
        if len(rows) < number:
            raise InputError(
                f"part {part}: {count(number, 'trial')} listed, and {len(rows)} came. Did the input change?"
            )
        changed = [
            inputs.difference(trial, stamp)
            for trial, stamp in zip((result.trial for result in found), self._inputs.stamps(part), strict=True)
            if trial.stamp != stamp
        ]
        if changed:
            raise InputError(
                f"{count(len(changed), 'input')} changed after {self.store.root} was started:{examples(changed)}"
            )
        writing = time.monotonic()
        if part in self.unusable:
            parts.put_aside(self.store, part)
        parts.write_part(self.store, part, self.digest, rows)
        now = time.monotonic()
        spent = {what: seconds - before[what] for what, seconds in waited.seconds.items()}
        skipped = sum(row["error"] is not None for row in rows)
        spent["writing"] = now - writing
        return Part(part, number, skipped, spent | {"python": max(now - begun - sum(spent.values()), 0.0)})

    def errors(self, most: int) -> list[tuple[str, str]]:
        """The first few trials that were skipped, and why."""
        found: list[tuple[str, str]] = []
        for part in range(self.num_parts):
            table = parts.read_part(self.store, part, ["utterance_id", "error"])
            rows = table.filter(pc.is_valid(table["error"])).to_pylist()
            found += [(row["utterance_id"], row["error"]) for row in rows]
            if len(found) >= most:
                break
        return found[:most]

    def merge(self) -> tuple[int, int]:
        """Write the score file of all parts, in input order: how many trials it has, and how many were skipped.

        Raises:
          InputError: parts are missing.
        """
        if missing := self.missing():
            raise InputError(f"{count(len(missing), 'part')} of {self.num_parts} still to be made")
        scored = skipped = 0
        with self.store.writing(SCORES) as file:
            for part in range(self.num_parts):
                try:
                    table = parts.read_part(self.store, part, ["utterance_id", "score"])
                except UnusableFileError as error:
                    raise InputError(f"{error}; the same command makes it again") from error
                for name, score in zip(*(column.to_pylist() for column in table.columns), strict=True):
                    if score is None:
                        skipped += 1
                    else:
                        file.write(score_line(name, score, escape=self._escape_ids).encode())
                        scored += 1
        return scored, skipped


def stretches(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Stretches (first, last + 1) of numbers that follow each other."""
    first = 0
    for place in range(1, len(numbers) + 1):
        if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
            yield numbers[first], numbers[place - 1] + 1
            first = place
