"""Steady time: runs of many calls, with one synchronisation at the end of each run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RUN_SECONDS, RUNS = 0.3, 5
SMOKE_RUN_SECONDS, SMOKE_RUNS = 0.01, 1
WARM_UP_CALLS = 3
"""As many as PyTorch needs before it replays a CUDA graph."""


@dataclass(frozen=True)
class Steady:
    """Seconds of a call: the mean of each run of `calls` calls."""

    seconds: list[float]
    calls: int


def time_runs(call: Callable[[], Any], wait: Callable[[Any], object], *, smoke: bool) -> Steady:
    """Time `call`, which starts work on the device; `wait` waits for what the last call returned."""
    run_seconds, runs = (SMOKE_RUN_SECONDS, SMOKE_RUNS) if smoke else (RUN_SECONDS, RUNS)
    for _ in range(0 if smoke else WARM_UP_CALLS):
        wait(call())
    calls = max(1, round(run_seconds / _run(call, wait, 1)))
    if calls > 1:
        # A single call of a small program is mostly the synchronisation.
        calls = max(1, round(run_seconds / _run(call, wait, min(calls, 10))))
    return Steady([_run(call, wait, calls) for _ in range(runs)], calls)


def _run(call: Callable[[], Any], wait: Callable[[Any], object], calls: int) -> float:
    output = None
    start = time.perf_counter()
    for _ in range(calls):
        output = call()
    wait(output)
    return (time.perf_counter() - start) / calls
