"""The parent of the GPU benchmark: starts one worker after the other, and writes the JSON after every measurement.

It does not use the GPU. A worker that fails, is killed or takes longer than its share of the time leaves a row with the
reason for each of its cases that was not measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed.gpu import render
from benchmarks.speed.gpu.plan import Case, Job, Row, Section, sections
from benchmarks.speed.machine import describe_machine
from benchmarks.speed.measure import ROOT, clean_environment

PACKAGES = (
    *("spectra-jax", "jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin", "flax", "numpy"),
    *("torch", "triton", "transformers", "nvidia-cublas", "nvidia-cudnn-cu13"),
)
GPU_FIELDS = (
    *("name", "driver_version", "memory.total", "memory.used", "compute_cap", "power.limit", "temperature.gpu"),
    *("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "utilization.gpu"),
)
WRITING_SECONDS = 180.0
"""The most that writing the network may take."""

RESERVED_SECONDS = 5.0
"""At the end, for the report."""

READER_SECONDS = 5.0
"""In which the reader of an ended worker finds the end of its pipe, which a process outside the group may keep open."""

SECTION_STRETCH = 1.3
"""How many times its proportional share of the remaining time a section may take: those after it are less important."""

# JAX reports the peak of its memory where its own allocator has taken the memory in advance.
MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_CLIENT_MEM_FRACTION": "0.9"}


def pending(case: Case) -> Row:
    """The row of a case until it has a result, so that the JSON of an unfinished run names what is missing."""
    return Row(case, problem="the run ended before it was measured")


@dataclass
class Benchmark:
    """A run, and what it has found.

    Attributes:
      output: the JSON.
      deadline: `time.time()` at which the last worker is ended.
    """

    output: Path
    work: Path
    smoke: bool
    deadline: float
    report: Callable[[str], None]
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> str:
        return "tiny" if self.smoke else "full"

    @property
    def device(self) -> str:
        return "cpu" if self.smoke else "gpu"

    def write(self) -> None:
        """Replace the JSON, so that a reader never finds half of it."""
        part = self.output.with_suffix(".part")
        part.write_text(json.dumps(self.results, indent=1) + "\n")
        part.replace(self.output)

    def start(self, section: Section, seconds: float) -> Worker:
        """Start the worker of a section, which has so many seconds."""
        deadline = time.time() + seconds
        job = Job(section.name, self.network, str(self.work), self.device, self.smoke, deadline, section.cases)
        return Worker(job, self.work / "logs" / f"gpu-{section.name}.log")

    def collect(self, section: Section, worker: Worker, seconds: float) -> None:
        """Read the results of a worker until it ends or its time is over, and write each of them."""
        start = time.monotonic()
        rows = {case: pending(case) for case in section.cases}
        found: dict[str, Any] = {"limit_seconds": round(seconds, 1)}
        self.results["sections"][section.name] = found

        def update() -> None:
            found["rows"] = [row.to_dict() for row in rows.values()]
            self.write()

        update()
        with worker:
            for result in worker.results():
                if "row" in result:
                    row = Row.from_dict(result["row"])
                    rows[row.case] = row
                    self.report(f"  {render.line(row)}")
                else:
                    self.results["environment"] |= result["facts"]
                update()
        for case, row in rows.items():
            if row == pending(case):
                rows[case] = Row(case, problem=worker.reason)
        found["seconds"] = round(time.monotonic() - start, 1)
        if worker.problem:
            found["problem"] = worker.problem
            self.report(f"  {section.name}: {worker.problem}")
        update()


class Worker:
    """The process of one section. A context manager: leaving it ends the process and what it has started.

    Attributes:
      problem: why the section did not end by itself; None if it did.
    """

    def __init__(self, job: Job, log: Path):
        self._job, self._log = job, log
        self.problem: str | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.speed.gpu.worker", str(os.getpid()), json.dumps(job.to_dict())],
                cwd=ROOT,
                env=_environment(job),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def reason(self) -> str:
        """Why a case has no result."""
        return self.problem or "no time was left in the section"

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(READER_SECONDS)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def results(self) -> Iterator[dict[str, Any]]:
        """Rows and facts as they come, until the worker ends or its deadline passes."""
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, self._job.deadline - time.time()))
            except queue.Empty:
                self.problem = "the section's time was over"
                return
            if line is None:
                self._note_end()
                return
            result = json.loads(line)
            if "failure" in result:
                self.problem = result["failure"]
            else:
                yield result

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def _note_end(self) -> None:
        code = self._process.wait()
        if code:
            tail = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            cause = signal.Signals(-code).name if code < 0 else f"status {code}"
            self.problem = f"the worker ended with {cause}: {tail[-1][:300] if tail else 'no message'}"


def _environment(job: Job) -> dict[str, str]:
    environment = clean_environment() | {"PYTHONUNBUFFERED": "1"}
    # Two variables for one setting are an error.
    environment.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)
    if job.device == "cpu":
        # Nothing is measured in earnest, so that compiling should be quick.
        flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        return environment | {
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "XLA_FLAGS": flags,
            "OMP_NUM_THREADS": "1",
        }
    if job.section == "network":
        return environment | {"JAX_PLATFORMS": "cpu"}
    # As a user starts them.
    if job.section == "cold":
        return environment
    # PyTorch's processes import JAX for the network's configuration, and it must not take the memory of the card.
    if job.section in ("peak-torch", "eager", "compiled"):
        return environment | {"JAX_PLATFORMS": "cpu"}
    return environment | MEMORY


def describe_gpu() -> dict[str, str] | None:
    """What `nvidia-smi` reports of the first GPU; None without it."""
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
        return dict(zip(GPU_FIELDS, map(str.strip, lines[0].split(",")), strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None


def share_seconds(remaining: float, section: Section, later: Sequence[Section]) -> float:
    """The time of a section, of what remains for it and those after it."""
    total = section.share + sum(other.share for other in later)
    return min(remaining, SECTION_STRETCH * remaining * section.share / total)


def run(
    *,
    output: Path,
    work: Path,
    minutes: float,
    smoke: bool,
    only: Sequence[str] | None = None,
    commit: str | None = None,
    plan: Sequence[Section] | None = None,
) -> dict[str, Any]:
    """Measure, and write `output` (JSON) and the report beside it (Markdown).

    Args:
      work: directory of the network's files.
      minutes: from now until the last worker is ended.
      smoke: the tiny network on the CPU, few cases.
      only: names of sections; all otherwise.
      commit: that is measured, where git cannot tell or is not that of the measured files.
      plan: other sections than those of `plan.sections`.
    """
    start = time.time()

    planned = [section for section in plan or sections(smoke=smoke) if not only or section.name in only]

    def report(activity: str) -> None:
        print(f"{time.time() - start:6.0f} s  {activity}", flush=True)

    benchmark = Benchmark(output.resolve(), work.resolve(), smoke, start + 60 * minutes - RESERVED_SECONDS, report)
    output.resolve().parent.mkdir(parents=True, exist_ok=True)
    environment = describe_machine(PACKAGES)
    environment["commit"] = commit or environment["commit"]
    benchmark.results |= {
        "mode": "gpu",
        "smoke": smoke,
        "network": benchmark.network,
        "minutes": minutes,
        "environment": {**environment, "gpu": describe_gpu()},
        "sections": {
            section.name: {"rows": [pending(case).to_dict() for case in section.cases]} for section in planned
        },
    }
    benchmark.write()
    try:
        _measure(benchmark, planned)
    finally:
        benchmark.results["environment"]["gpu_at_end"] = describe_gpu()
        benchmark.results["total_seconds"] = round(time.time() - start, 1)
        benchmark.write()
        output.with_suffix(".md").write_text(render.report(benchmark.results))
    return benchmark.results


def _measure(benchmark: Benchmark, planned: Sequence[Section]) -> None:
    writing_seconds = min(WRITING_SECONDS, benchmark.deadline - time.time())
    writing = Section("network", 0, [])
    benchmark.report(f"the {benchmark.network} network is written in {benchmark.work}")
    with benchmark.start(writing, writing_seconds) as writer:
        written = False
        for index, section in enumerate(planned):
            # The peak needs no network, so that it is measured while the network is written.
            if not written and not section.name.startswith("peak"):
                benchmark.collect(writing, writer, writing_seconds)
                written = True
            seconds = share_seconds(benchmark.deadline - time.time(), section, planned[index + 1 :])
            if seconds < 1:
                rows = [Row(case, problem="no time was left for the section") for case in section.cases]
                benchmark.results["sections"][section.name] = {"rows": [row.to_dict() for row in rows]}
                benchmark.write()
                continue
            benchmark.report(f"{section.name}, at most {seconds:.0f} s")
            benchmark.collect(section, benchmark.start(section, seconds), seconds)
        if not written:
            benchmark.collect(writing, writer, writing_seconds)
