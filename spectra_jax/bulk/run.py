"""A bulk scoring run: what it is, which parts are done, the parts to come, and the score file at the end."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any, Protocol

import pyarrow.compute as pc

from spectra_jax.bulk import parts
from spectra_jax.bulk.store import Store
from spectra_jax.identity import require_same
from spectra_jax.results import Result
from spectra_jax.score_file import score_line
from spectra_jax.scoring import FIRST_WINDOW, Listening, Waited
from spectra_jax.sources import Trials
from spectra_jax.trials import InputError, StoppedError, Trial, count

RUN, SCORES = "run.json", "scores.txt"
_PACKAGES = ("spectra-jax", "jax", "jaxlib", "flax", "numpy", "scipy", "soundfile")


class SkipLimitError(StoppedError):
    """More trials could not be scored than was allowed. What was done is kept."""


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
        self, trials: Iterable[Trial], *, listening: Listening, flush_every: int, waited: Waited
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
      max_errors: stop once more trials than this could not be scored.
      command: words of the command, which the run repeats.
      escape_ids: of the score file, see `spectra_jax.results.write`.

    Raises:
      InputError: the folder holds something else, or another run: what differs is named.
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
        command: Sequence[str] = (),
        escape_ids: bool = False,
    ):
        self.store, self.trials = store, trials
        self.scorer, self.listening = scorer, listening
        self._escape_ids = escape_ids
        self._process, self._max_errors = process, max_errors
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
        self.digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._whole: set[int] = set()
        self._open(identity, command)

    def _open(self, identity: Mapping[str, Any], command: Sequence[str]) -> None:
        try:
            with self.store.reading(RUN) as file:
                text = file.read()
        except FileNotFoundError:
            if others := self.store.names("."):
                raise InputError(
                    f"{self.store.root}: holds other files and no {RUN}, such as {others[0]}; give a folder of its own"
                ) from None
            known = {
                "run": identity,
                "model": str(self.scorer.source),
                "command": list(command),
                "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
                "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            with self.store.writing(RUN) as file:
                file.write((json.dumps(known, indent=2, default=list) + "\n").encode())
            return
        require_same(text, identity, folder=self.store.root, key="run")

    @property
    def num_parts(self) -> int:
        return -(-len(self.trials) // self.part_size)

    def trials_of(self, part: int) -> int:
        """How many trials a part has."""
        return min(self.part_size, len(self.trials) - part * self.part_size)

    def missing(self) -> list[int]:
        """Parts that are still to be made, of all processes."""
        for part in {parts.number_of(name) for name in self.store.names(parts.FOLDER)} - self._whole - {None}:
            assert part is not None
            if part < self.num_parts and parts.is_whole(self.store, part, self.digest, self.trials_of(part)):
                self._whole.add(part)
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
        )
        with closing(results):
            for part in range(first, last):
                yield self._write(part, results, waited)

    def made(self, part: int) -> Part:
        """A part that is there."""
        table = parts.read_part(self.store, part, ["error"])
        return Part(part, table.num_rows, table.num_rows - table["error"].null_count, {})

    def counted(self, made: Iterable[Part]) -> Iterator[Part]:
        """The same parts, wherever they are made, until `max_errors` is passed.

        Raises:
          SkipLimitError: it was.
        """
        errors = 0
        for part in made:
            yield part
            errors += part.skipped
            if self._max_errors is not None and errors > self._max_errors:
                raise SkipLimitError(
                    f"{count(errors, 'trial')} could not be scored, more than the {self._max_errors} allowed; "
                    f"their reasons are in the column `error` of {self.store.path(parts.FOLDER)}"
                )

    def _write(self, part: int, results: Iterator[Result], waited: Waited) -> Part:
        begun, before = time.monotonic(), dict(waited.seconds)
        first, number = part * self.part_size, self.trials_of(part)
        rows = [parts.row(first + place, result) for place, result in enumerate(islice(results, number))]
        if len(rows) < number:
            raise InputError(
                f"part {part}: {count(number, 'trial')} listed, and {len(rows)} came. Did the input change?"
            )
        writing = time.monotonic()
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
                table = parts.read_part(self.store, part, ["utterance_id", "score"])
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
