"""The machine and the packages that were measured with."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.contenders import cores
from benchmarks.speed.measure import ROOT

PACKAGES = (
    *("spectra-jax", "jax", "jaxlib", "flax", "numpy", "torch", "transformers"),
    *("onnx", "onnxscript", "onnxruntime", "openvino"),
)
FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "sve",
)


def describe_machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Plain values for the JSON; what the system does not report is None."""
    cpu = _cpuinfo()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        # Results and reports change while their own sections are measured.
        "uncommitted_changes": bool(
            _git("status", "--porcelain", "--untracked-files=no", ":!docs", ":!benchmarks/results")
        ),
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_model": [cpu.get("cpu family"), cpu.get("model")],
        "cpu_flags": _flags(cpu),
        "cores": cores(),
        "memory_bytes": _memory(),
        "load_average_at_start": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
    }


def lacks_bfloat16() -> bool:
    """Whether this is a CPU known to have no instructions for bfloat16, whose products cost more than float32's."""
    flags = _flags(_cpuinfo())
    return bool(flags) and not any("bf16" in flag for flag in flags)


def _flags(cpu: dict[str, str]) -> list[str]:
    """Those of `FLAGS` that a CPU has; none where the system does not report any."""
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    return [flag for flag in FLAGS if flag in flags]


def _cpuinfo() -> dict[str, str]:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {}


def _memory() -> int | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
