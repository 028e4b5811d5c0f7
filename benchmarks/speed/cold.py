"""From nothing to the first score on standard output: wall time of fresh processes."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Timer
from typing import Any

from benchmarks.speed.measure import ROOT, clean_environment
from benchmarks.speed.network import Network

CLIP = ROOT / "examples" / "corpus" / "eval" / "june_00.flac"
TIMEOUT = 600


def cold_starts(network: Network, rounds: int) -> list[dict[str, Any]]:
    """Rows of contender, seconds of each start, and the score that it printed."""
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "one.wav"
        samples, rate = soundfile.read(CLIP, dtype="int16")
        soundfile.write(wav, samples, rate, subtype="PCM_16")
        script = str(Path(sys.executable).with_name("spectra-jax"))
        ours = [script, "score", str(wav), "--model", str(network.native)]
        torch = [sys.executable, "-m", "benchmarks.speed.torch_score", str(network.pytorch), str(wav)]
        rows: dict[str, list[dict[str, Any]]] = {}
        # In turn, since a machine's speed varies over time.
        for index in range(rounds):
            cache = {"XDG_CACHE_HOME": str(Path(folder) / f"caches{index}")}
            for label, command, environment in (
                ("PyTorch", torch, {}),
                ("spectra-jax, no compilation cache", [*ours, "--no-compile-cache"], {}),
                ("spectra-jax, empty compilation cache", ours, cache),
                ("spectra-jax, second start", ours, cache),
            ):
                rows.setdefault(label, []).append(time_to_score(label, command, environment))
        return [_merged(same) for same in rows.values()]


def time_to_score(label: str, command: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Start a command and wait for its end: when it printed the first score, or why it printed none."""
    with tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                command, cwd=ROOT, env=clean_environment() | dict(env), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        except OSError as error:
            return {"label": label, "error": str(error)[:300]}
        seconds, score = None, None
        late = Timer(TIMEOUT, process.kill)
        late.start()
        try:
            with process:
                for line in process.stdout or ():
                    # With a sign or not, and four decimals or more.
                    found = re.search(r"-?\d+\.\d{4,}", line)
                    if found and score is None:
                        seconds, score = time.perf_counter() - start, float(found[0])
        finally:
            late.cancel()
        if time.perf_counter() - start > TIMEOUT:
            return {"label": label, "error": f"not ended after {TIMEOUT} s"}
        if process.returncode or score is None:
            errors.seek(0)
            messages = [line for line in errors.read().splitlines() if any(map(str.isalpha, line))]
            return {"label": label, "error": f"exit status {process.returncode}: {' '.join(messages)[-300:]}"}
    return {"label": label, "seconds": [seconds], "score": score}


def _merged(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    failed = [row for row in rows if "error" in row]
    return failed[0] if failed else {**rows[0], "seconds": [row["seconds"][0] for row in rows]}
