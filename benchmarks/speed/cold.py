"""From nothing to the first score: wall time of fresh processes."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile  # type: ignore[import-untyped]

from benchmarks.speed.measure import ROOT, clean_environment
from benchmarks.speed.network import Network

CLIP = ROOT / "examples" / "corpus" / "eval" / "june_00.flac"
TIMEOUT = 600


def cold_starts(network: Network, rounds: int) -> list[dict[str, Any]]:
    """Rows of contender, seconds of each start, and the score that it printed."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "one.wav"
        samples, rate = soundfile.read(CLIP, dtype="int16")
        soundfile.write(wav, samples, rate, subtype="PCM_16")
        script = str(Path(sys.executable).with_name("spectra-jax"))
        ours = [script, "score", str(wav), "--model", str(network.native)]
        torch = [sys.executable, "-m", "benchmarks.speed.torch_score", str(network.pytorch), str(wav)]
        rows: dict[str, list[dict[str, Any]]] = {}
        # In turn, since a machine is not as fast at one time as at another.
        for index in range(rounds):
            cache = {"XDG_CACHE_HOME": str(Path(folder) / f"caches{index}")}
            for label, command, environment in (
                ("PyTorch", torch, {}),
                ("spectra-jax, no compile cache", [*ours, "--no-compile-cache"], {}),
                ("spectra-jax, empty compile cache", ours, cache),
                ("spectra-jax, second start", ours, cache),
            ):
                rows.setdefault(label, []).append(_row(label, command, environment))
        return [_merged(same) for same in rows.values()]


def _row(label: str, command: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=clean_environment() | env, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"label": label, "error": str(error)[:300]}
    seconds = time.perf_counter() - start
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if any(map(str.isalpha, line))]
        return {"label": label, "error": f"exit status {done.returncode}: {' '.join(told)[-300:]}"}
    # The score, of all numbers on the last line that has one: with a sign or not, and six decimals or more.
    found = re.findall(r"-?\d+\.\d{3,}", done.stdout)
    return {"label": label, "seconds": [seconds], "score": float(found[-1]) if found else None}


def _merged(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    failed = [row for row in rows if "error" in row]
    return failed[0] if failed else {**rows[0], "seconds": [row["seconds"][0] for row in rows]}
