"""The parent's side: workers started and ended, timed in turn or alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.network import Network

ROOT = Path(__file__).parents[2]


class WorkerError(Exception):
    """A worker could not execute a request, or has ended; the message states why."""


class Remote:
    """A worker process, as the parent sees it. A context manager: leaving it ends the process."""

    def __init__(self, network: Network, contender: str | None = None, env: Mapping[str, str] | None = None):
        self.name = contender or "probe"
        self._warm: set[tuple[int, int]] = set()
        logs = network.work / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{self.name}.log"
        arguments = [
            network.name,
            str(network.work),
            network.device,
            str(os.getpid()),
            *([contender] if contender else []),
        ]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.speed.worker", *arguments],
                cwd=ROOT,
                env=clean_environment() | dict(env or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def request(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Execute one operation and return its response.

        Raises:
          WorkerError: it failed, or the worker has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the worker ended during {op}: {self._cause()}; see {self.log}")
        response = json.loads(line)
        if "error" in response:
            raise WorkerError(response["error"])
        return response

    def seconds(self, op: str, **arguments: Any) -> float:
        return self.request(op, **arguments)["seconds"]

    def warm_up(self, batch: int, samples: int) -> None:
        """Compile for one shape and call once, unless that has been done."""
        if (batch, samples) not in self._warm:
            if not CONTENDERS[self.name].keeps_shapes:
                self._warm.clear()
            self.request("compile", batch=batch, samples=samples)
            self.request("run", batch=batch, samples=samples)
            self._warm.add((batch, samples))

    def _cause(self) -> str:
        code = self._process.wait()
        if code < 0:
            note = ", which the kernel does when memory runs out" if code == -signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name}{note}"
        tail = self.log.read_text().strip().splitlines()
        return f"exit status {code}, {tail[-1] if tail else 'no message'}"


def clean_environment() -> dict[str, str]:
    """This process's environment without variables that would change a measurement."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    # Otherwise JAX would take most of a GPU's memory at once, and the peers could not run at the same time.
    return env | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def prepared(network: Network, contender: str) -> Iterator[Remote]:
    """A worker whose files have been prepared, in a process that has ended by then.

    Raises:
      WorkerError: they could not.
    """
    with Remote(network, contender) as preparing:
        preparing.request("prepare")
    with Remote(network, contender) as worker:
        yield worker


@contextmanager
def loaded(network: Network, contender: str) -> Iterator[Remote]:
    """A prepared worker that has loaded its weights.

    Raises:
      WorkerError: it could not.
    """
    with prepared(network, contender) as worker:
        worker.request("load")
        yield worker


def in_turn(workers: Sequence[Remote], batch: int, samples: int, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Time workers A B C A B C ..., one call each a round, the others idle.

    Stops after `rounds`, or after the first round that ends past `seconds`. A worker that fails is
    left out of the comparison, with its reason.
    """
    errors: dict[str, str] = {}
    times: dict[str, list[float]] = {}
    for worker in workers:
        try:
            worker.warm_up(batch, samples)
            times[worker.name] = []
        except WorkerError as error:
            errors[worker.name] = str(error)
    start = time.monotonic()
    for _ in range(rounds):
        for worker in workers:
            if worker.name in times:
                try:
                    times[worker.name].append(worker.seconds("run", batch=batch, samples=samples))
                except WorkerError as error:
                    errors[worker.name] = str(error)
                    del times[worker.name]
        if time.monotonic() - start > seconds:
            break
    return {"batch": batch, "samples": samples, "seconds": times, "errors": errors}


def alone(network: Network, contender: str, batches: Sequence[int], rounds: int) -> dict[str, Any]:
    """Load, compile, first call, steady time and peak memory of one contender, alone on the machine.

    Each batch size in a process of its own: what one leaves behind does not count for the next one.
    """
    found: dict[str, Any] = {"contender": contender, "batches": []}
    samples = network.config.num_samples
    try:
        for batch in batches:
            with prepared(network, contender) as worker:
                shape = {"batch": batch, "samples": samples}
                row: dict[str, Any] = {"batch": batch, "load_seconds": worker.seconds("load")}
                loading = worker.request("memory", reset=True)
                row["load_peak_bytes"], row["memory_resets"] = loading["peak_bytes"], loading["reset"]
                row["compile_seconds"] = worker.seconds("compile", **shape)
                row["compile_peak_bytes"] = worker.request("memory", reset=True)["peak_bytes"]
                row["first_seconds"] = worker.seconds("run", **shape)
                row["seconds"] = [worker.seconds("run", **shape) for _ in range(rounds)]
                row["run_peak_bytes"] = worker.request("memory", reset=True)["peak_bytes"]
                found["batches"].append(row)
    except WorkerError as error:
        found["error"] = str(error)
    return found
