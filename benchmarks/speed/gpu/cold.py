"""The section of cold starts: wall time of a fresh process to its first score on standard output."""

from __future__ import annotations

import sys
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed.cold import time_to_score
from benchmarks.speed.gpu.plan import OURS, Case, Job, Row
from benchmarks.speed.gpu.worker import each_case, network_of
from tests.golden import recipe


def cold_starts(job: Job) -> Iterator[Row]:
    """`spectra-jax score` twice with one compilation cache, and eager PyTorch."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        clip = Path(folder) / "clip.wav"
        with wave.open(str(clip), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(recipe.SAMPLE_RATE)
            file.writeframes(recipe.waveform(100, recipe.WINDOW_SAMPLES).astype("<i2").tobytes())
        yield from each_case(job, lambda case: _start(job, case, clip, Path(folder) / "caches"))


def _start(job: Job, case: Case, clip: Path, caches: Path) -> Row:
    network = network_of(job)
    ours = [sys.executable, "-m", "spectra_jax", "score", str(clip), "--model", str(network.native)]
    torch = [sys.executable, "-m", "benchmarks.speed.torch_score", str(network.pytorch), str(clip)]
    command = ours if case.contender == OURS else torch
    found = time_to_score(str(case), command, {"XDG_CACHE_HOME": str(caches)})
    if "error" in found:
        return Row(case, problem=found["error"])
    return Row(case, found["seconds"], score=found["score"])
