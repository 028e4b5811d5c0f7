"""Programs of `tests.programs` on eight forced devices of the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# With more devices than cores, an all-reduce of XLA:CPU sometimes finds more participants than devices: two collectives
# of one run have the same identifier. It then aborts the process or reads from address 0. The case in which that
# happened is tried again; a program that ends in any other way is not started again.
_CRASHES = (-signal.SIGABRT, -signal.SIGSEGV)
_ATTEMPTS = 4


def output_of(program: str, cases: Sequence[Mapping[str, Any]], *arguments: str) -> list[Any]:
    """What the program printed for each case: an object of JSON on a line of its own."""
    # Unoptimised code takes half the time to compile.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    found: list[Any] = []
    crashes = 0
    while True:
        remaining = json.dumps(cases[len(found) :], default=str)
        command = [sys.executable, "-m", f"tests.programs.{program}", remaining, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        lines = done.stdout.splitlines()
        found += map(json.loads, lines)
        if done.returncode not in _CRASHES:
            break
        crashes = 1 if lines else crashes + 1
        if crashes == _ATTEMPTS:
            break
    assert done.returncode == 0, (done.returncode, done.stderr)
    return found
