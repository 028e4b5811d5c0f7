"""Contenders in processes of their own, called over a pipe and timed there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.speed.measure import WorkerError
from benchmarks.speed.worker import peak_memory, reset_peak_memory

# Compiled programs of earlier runs would make the first call look faster than it is.
_CACHES = ("JAX_COMPILATION_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")

_SECONDS_TO_END = 10.0


@dataclass(frozen=True)
class Call:
    """One call of a contender.

    Attributes:
      seconds: of the call alone.
      output: what the contender returned.
      peak_bytes: the most memory resident since the process started or `reset_peak`; None if not reported.
    """

    seconds: float
    output: Any
    peak_bytes: int | None


@dataclass(frozen=True)
class _Request:
    argument: Any
    reset_peak: bool


class Worker:
    """A contender in a process of its own, which ends with the context.

    Args:
      name: of the contender, for messages.
      load: returns the function that is called; both are computed in the process. A function of a module.
      arguments: of `load`.
    """

    def __init__(self, name: str, load: Callable[..., Callable[[Any], Any]], *arguments: Any):
        self.name = name
        self._cache = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        context = multiprocessing.get_context("spawn")
        self._connection, connection = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(connection, self._cache.name, load, *arguments), daemon=True
        )
        self._process.start()
        connection.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()  # the process ends when it is idle
        self._process.join(_SECONDS_TO_END)
        self.end()

    def end(self) -> None:
        """End the process, with the compilers that it has started."""
        if self._process.pid is not None:
            # The group does not exist before the process has begun to serve.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._cache.cleanup()

    def call(self, argument: Any, *, limit: float | None = None, reset_peak: bool = False) -> Call:
        """Call the contender.

        Args:
          argument: of the function that `load` returned.
          limit: seconds after which the process is ended. The first call also waits for `load`.
          reset_peak: measure the peak of the memory from this call on.

        Raises:
          TimeoutError: the call did not finish in `limit` seconds.
          WorkerError: the contender raised an exception, or its process has ended.
        """
        try:
            self._connection.send(_Request(argument, reset_peak))
            if not self._connection.poll(limit):
                self.end()
                raise TimeoutError(f"did not finish in {limit:g} s")
            response = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise WorkerError(f"{self.name}: the process ended with status {self._process.exitcode}") from None
        if not isinstance(response, Call):
            raise WorkerError(f"{self.name}: {response}")
        return response


def _serve(connection: Connection, cache: str, load: Callable[..., Callable[[Any], Any]], *arguments: Any) -> None:
    os.setpgrp()
    for name in _CACHES:
        os.environ.pop(name, None)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    run = None
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            run = run or load(*arguments)
            if request.reset_peak:
                reset_peak_memory()
            start = time.perf_counter()
            output = run(request.argument)
            seconds = time.perf_counter() - start
        except Exception as error:
            traceback.print_exc()
            response: Call | str = f"{type(error).__name__}: {str(error).strip()[:300]}"
        else:
            response = Call(seconds, output, peak_memory())
        try:
            connection.send(response)
        except BrokenPipeError:  # the parent has ended
            return
