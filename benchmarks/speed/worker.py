"""One process, one contender: JSON lines in on standard input, JSON lines out on standard output.

    python -m benchmarks.speed.worker NETWORK WORK DEVICE PARENT_PID [CONTENDER]

    {"op": "load"}                                -> {"seconds": ...}
    {"op": "compile", "batch": 8, "samples": n}   -> {"seconds": ...}
    {"op": "run", "batch": 8, "samples": n}       -> {"seconds": ...}
    {"op": "output", "batch": 8, "samples": n}    -> {"output": [[...], ...]}, of the last run or a new one
    {"op": "memory", "reset": true}               -> {"peak_bytes": ...} since the last reset, and whether it was reset
    {"op": "probe", "probe": NAME, ...}           -> {"result": ...}, see `benchmarks/speed/probes.py`

A response with the key `error` states why an operation failed; the worker then waits for the next one. It ends with its
standard input, or with the process that started it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.contenders import CONTENDERS, Contender, UnavailableError
from benchmarks.speed.network import Network, windows

_PR_SET_PDEATHSIG = 1


class Worker:
    """The operations."""

    def __init__(self, network: Network, contender: Contender | None):
        self._network = network
        self._contender = contender
        self._windows: dict[tuple[int, int], np.ndarray] = {}
        self._output: tuple[tuple[int, int], np.ndarray] | None = None

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = request.pop("op")
        return getattr(self, f"do_{operation}")(**request)

    @property
    def contender(self) -> Contender:
        if self._contender is None:
            raise RuntimeError("this worker was started without a contender")
        return self._contender

    def do_prepare(self) -> dict[str, Any]:
        return _timed(self.contender.prepare)

    def do_load(self) -> dict[str, Any]:
        return _timed(self.contender.load)

    def do_compile(self, batch: int, samples: int) -> dict[str, Any]:
        self._inputs(batch, samples)  # computed before the clock starts
        return _timed(self.contender.compile, batch, samples)

    def do_run(self, batch: int, samples: int) -> dict[str, Any]:
        inputs = self._inputs(batch, samples)
        start = time.perf_counter()
        output = self.contender.run(inputs)
        seconds = time.perf_counter() - start
        self._output = (batch, samples), output
        return {"seconds": seconds}

    def do_output(self, batch: int, samples: int) -> dict[str, Any]:
        """The logits, or of an encoder, whose output is large, every 997th number."""
        if self._output is None or self._output[0] != (batch, samples):
            self.do_run(batch, samples)
        assert self._output is not None
        output = self._output[1].astype(np.float64)
        return {"output": (output.ravel()[::997] if self.contender.encoder_only else output).tolist()}

    def do_memory(self, reset: bool = False) -> dict[str, Any]:
        return {"peak_bytes": peak_memory(), "reset": reset and reset_peak_memory()}

    def do_probe(self, probe: str, **arguments: Any) -> dict[str, Any]:
        from benchmarks.speed import probes

        return {"result": probes.PROBES[probe](self._network, **arguments)}

    def _inputs(self, batch: int, samples: int) -> np.ndarray:
        if (batch, samples) not in self._windows:
            self._windows = {(batch, samples): windows(batch, samples)}
        return self._windows[batch, samples]


def _timed(function: Any, *arguments: Any) -> dict[str, Any]:
    start = time.perf_counter()
    function(*arguments)
    return {"seconds": time.perf_counter() - start}


def reset_peak_memory() -> bool:
    """Let `peak_memory` count from now on; whether the system could."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def peak_memory() -> int | None:
    """The most bytes resident at one time (VmHWM), or None where the system does not report it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def end_with(parent: int) -> None:
    """Have the kernel end this process when the one that started it ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the process that started this one has ended")


def main() -> None:
    name, work, device, parent, *contender = sys.argv[1:]
    end_with(int(parent))
    # An interrupt at the terminal reaches the whole group; the parent decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print goes to the log, not among the responses.
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    network = Network(name, Path(work), device)
    worker = Worker(network, CONTENDERS[contender[0]](network) if contender else None)
    for line in sys.stdin:
        try:
            response = worker.handle(json.loads(line))
        except UnavailableError as error:
            response = {"error": str(error)}
        except ImportError as error:
            response = {"error": f"not installed: {error}"}
        except Exception as error:
            traceback.print_exc()
            response = {"error": f"{type(error).__name__}: {str(error).strip()[:300]}"}
        print(json.dumps(response), file=responses, flush=True)


if __name__ == "__main__":
    main()
