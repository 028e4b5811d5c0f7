"""Runs that are killed, damaged and started many times at once: each ends in the bytes of an undisturbed run.

The scorer is a fake, so that a process takes milliseconds and is killed within the run and not while it compiles.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from spectra_jax.data.sources import collect
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.files import atomic
from spectra_jax.inference.results import Result
from spectra_jax.jobs import BulkRun, Store

PART_SIZE = 6
WRITTEN = ("run.json", "inputs.parquet", "part-000000.parquet", "scores.txt")


class FakeScorer:
    """Scores files by their bytes; those that begin with `bad` cannot be scored."""

    source = "fake"

    def __init__(self, seconds: float = 0.0):
        self._seconds = seconds

    def identity(self) -> dict[str, Any]:
        return {"batch_size": 3, "fake": True}

    def score_trials(self, trials: Iterable[Trial], **_: object) -> Generator[Result]:
        for trial in trials:
            time.sleep(self._seconds)
            content = Path(trial.path).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if content.startswith(b"bad"):
                yield Result(trial, None, error="broken", sha256=digest)
            else:
                score = int(digest[:6], 16) / 2**23 - 1
                yield Result(trial, (-score, score), seconds=1.0, sha256=digest)


def write_inputs(folder: Path, number: int) -> Path:
    """Write a folder of `number` files, every seventh of which cannot be scored."""
    folder.mkdir()
    for index in range(number):
        (folder / f"{index:03d}.wav").write_bytes((b"bad %d" if index % 7 == 5 else b"good %d") % index)
    return folder


def open_run(folder: Path | str, inputs: Path, *, seconds: float = 0.0, **options: Any) -> BulkRun:
    return BulkRun(Store(folder), collect([inputs]), FakeScorer(seconds), part_size=PART_SIZE, **options)


def finish(run: BulkRun) -> bytes:
    """Score all missing parts, and return the score file."""
    list(run)
    run.merge()
    return run.store.read("scores.txt")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- kills ----------------------------------------------------------------------------------------------------------


class KillAt:
    """A trace function that counts the lines of `atomic` which write the file `name`, and kills this process at one.

    Attributes:
      lines: how many were executed.
      moment: the line, counted from 0, before which the process is killed; None for none.
    """

    def __init__(self, name: str, moment: int | None):
        self.name, self.moment, self.lines = name, moment, 0

    def __call__(self, frame: FrameType, event: str, _: object) -> KillAt | None:
        if frame.f_code.co_filename != atomic.__file__:
            return None
        known = frame.f_locals
        written = known.get("final") or known.get("path") or known.get("left") or ""
        if event == "line" and self.name in str(written):
            if self.lines == self.moment:
                os.kill(os.getpid(), signal.SIGKILL)
            self.lines += 1
        return self


def score(folder: Path, inputs: Path, kill_at: KillAt | None = None, barrier: Any = None) -> None:
    """Score a run to its end."""
    if barrier is not None:
        barrier.wait()
    sys.settrace(kill_at)
    finish(open_run(folder, inputs, seconds=0 if kill_at or barrier else 0.0005))


class Processes:
    """Processes that score, forked from a server that has imported everything and has no threads."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])

    def barrier(self, number: int) -> Any:
        return self._context.Barrier(number)

    def start(self, *given: object) -> Any:
        process = self._context.Process(target=score, args=given)
        process.start()
        return process

    def run(self, *given: object) -> int:
        process = self.start(*given)
        process.join()
        return int(process.exitcode)


class Campaign:
    """Disturbances of runs over the same inputs; every check is an assertion."""

    def __init__(self, root: Path, number: int = 60, seed: int = 0):
        root.mkdir(exist_ok=True)
        self.root, self.inputs, self.random = root, write_inputs(root / "inputs", number), random.Random(seed)
        self.undisturbed = root / "undisturbed"
        self.expected = finish(open_run(self.undisturbed, self.inputs))
        self.processes = Processes()

    def require_undisturbed(self, folder: Path) -> None:
        assert (folder / "scores.txt").read_bytes() == self.expected, folder
        assert files(folder) == files(self.undisturbed), "killed processes left files behind"

    def random_kills(self, kills: int) -> Counter[str]:
        """Kill runs at random moments, and resume them until they end."""
        assert self.processes.run(self.root / "timed", self.inputs) == 0
        # The first process starts the server, so later ones take less time.
        start = time.monotonic()
        assert self.processes.run(self.root / "timed-again", self.inputs) == 0
        duration, counts, runs = time.monotonic() - start, Counter[str](), 0
        while counts["killed"] < kills:
            folder = self.root / f"random-{runs}"
            process = self.processes.start(folder, self.inputs)
            process.join(self.random.uniform(0, duration))
            process.kill()
            process.join()
            counts["killed" if process.exitcode == -signal.SIGKILL else "finished"] += 1
            assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
            if process.exitcode == 0:
                self.require_undisturbed(folder)
                runs += 1
        finish(open_run(folder, self.inputs))
        self.require_undisturbed(folder)
        return counts

    def aimed_kills(self, each: int) -> Counter[str]:
        """Kill runs at moments spread over the writing of each kind of file."""
        counts = Counter[str]()
        for name in WRITTEN:
            counter = KillAt(name, None)
            sys.settrace(counter)
            try:
                finish(open_run(self.root / f"lines-{name}", self.inputs))
            finally:
                sys.settrace(None)
            assert counter.lines >= each, (name, counter.lines)
            for kill in range(each):
                folder = self.root / f"aimed-{name}-{kill}"
                kill_at = KillAt(name, kill * counter.lines // each)
                assert self.processes.run(folder, self.inputs, kill_at) == -signal.SIGKILL
                counts[f"{name}: killed"] += 1
                finish(open_run(folder, self.inputs))
                self.require_undisturbed(folder)
        return counts

    def starters(self, number: int, rounds: int) -> Counter[str]:
        """Start `number` processes that open the same new run at once."""
        counts = Counter[str]()
        for turn in range(rounds):
            barrier, folder = self.processes.barrier(number), self.root / f"starters-{turn}"
            started = [self.processes.start(folder, self.inputs, None, barrier) for _ in range(number)]
            for process in started:
                process.join()
                assert process.exitcode == 0, process.exitcode
                counts["ended well"] += 1
            self.require_undisturbed(folder)
        return counts

    # ---- damage -----------------------------------------------------------------------------------------------------

    def outcome(self, damage: Callable[[bytes], bytes], name: str) -> str:
        """Damage a file of a complete run, resume the run, and return how that ends."""
        path = next(self.undisturbed.rglob(name))
        before = path.read_bytes()
        path.write_bytes(damage(before))
        try:
            assert finish(open_run(self.undisturbed, self.inputs)) == self.expected, name
            return "same bytes"
        except InputError as error:
            assert name in str(error), error
            return "refused by name"
        finally:
            path.write_bytes(before)
            shutil.rmtree(self.undisturbed / "replaced", ignore_errors=True)

    def flips(self, every: int) -> Counter[str]:
        """Flip one bit in every n-th byte of each file, one after the other."""
        counts = Counter[str]()
        for name in WRITTEN:
            size = next(self.undisturbed.rglob(name)).stat().st_size
            for position in range(self.random.randrange(every), size, every):
                bit = 1 << self.random.randrange(8)

                def flip(data: bytes, position: int = position, bit: int = bit) -> bytes:
                    return data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]

                counts[f"{name}: {self.outcome(flip, name)}"] += 1
        return counts
