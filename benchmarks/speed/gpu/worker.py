"""One process, one section: JSON lines on standard output, one for each measurement.

    python -m benchmarks.speed.gpu.worker PARENT_PID JOB

JOB is a `plan.Job` as JSON. A line has one key: `row` (a `plan.Row`), `facts` (what belongs into the description of the
machine), or `failure` (why the section could not continue).
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.gpu.plan import Case, Job, Row
from benchmarks.speed.network import Network, windows
from benchmarks.speed.worker import end_with

SECTIONS = {
    "network": "ours:write_network",
    "peak-jax": "ours:peaks",
    "peak-torch": "peers:peaks",
    "ours": "ours:forwards",
    "eager": "peers:eager",
    "compiled": "peers:compiled",
    "more-batches": "ours:forwards",
    "stages": "ours:stages",
    "cold": "cold:cold_starts",
    "training": "training:steps",
    "scorer": "ours:scorers",
}
"""Module and function of each section. A module is imported in its own process alone."""

Facts = dict[str, Any]

DISTINCT_WINDOWS = 64
"""Larger batches repeat these windows, which take long to synthesise."""


def network_of(job: Job) -> Network:
    return Network(job.network, Path(job.work), job.device)


def batch_of_windows(job: Job, batch: int) -> np.ndarray:
    """The first `batch` windows of the benchmark's series, (batch, num_samples) float32."""
    samples = network_of(job).config.num_samples
    distinct = windows(min(batch, DISTINCT_WINDOWS), samples)
    return np.tile(distinct, (-(-batch // len(distinct)), 1))[:batch]


def out_of_time(job: Job) -> bool:
    return time.time() >= job.deadline


def guarded(case: Case, measure: Callable[[], Row]) -> Row:
    """The row of a case; that of a failing one states why."""
    try:
        return measure()
    except Exception as error:
        traceback.print_exc()
        return Row(case, problem=explain(error))


def each_case(job: Job, measure: Callable[[Case], Row]) -> Iterator[Row]:
    """The row of each case, until the section's time is over."""
    for case in job.cases:
        if out_of_time(job):
            return
        yield guarded(case, functools.partial(measure, case))


def explain(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"not installed: {error}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def reference_file(job: Job) -> Path:
    """The logits that all others are compared with, (REFERENCE_BATCH, 2) float32."""
    return network_of(job).folder / "reference.npy"


def difference(job: Job, logits: np.ndarray) -> float | None:
    """The largest difference of a logit from the reference; None where there is no reference."""
    if not reference_file(job).exists():
        return None
    reference = np.load(reference_file(job))
    count = min(len(reference), len(logits))
    return float(np.max(np.abs(logits[:count].astype(np.float64) - reference[:count])))


def main() -> None:
    parent, text = sys.argv[1:]
    end_with(int(parent))
    job = Job.from_dict(json.loads(text))
    # What libraries print goes to the log, not among the results.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(key: str, value: Any) -> None:
        print(json.dumps({key: value}), file=results, flush=True)

    try:
        module, function = SECTIONS[job.section].split(":")
        section: Callable[[Job], Iterator[Row | Facts]] = getattr(
            importlib.import_module(f"benchmarks.speed.gpu.{module}"), function
        )
        for result in section(job):
            if isinstance(result, Row):
                send("row", result.to_dict())
            else:
                send("facts", result)
    except Exception as error:
        traceback.print_exc()
        send("failure", explain(error))
        results.flush()
    # Threads that still compile would delay the end.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
