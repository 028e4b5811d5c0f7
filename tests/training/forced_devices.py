"""Programs of `tests.programs` on eight forced devices of the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# With more devices than cores, an all-reduce of XLA:CPU sometimes finds more participants than devices: two collectives
# of one run have the same identifier. It then aborts the process or reads from address 0. A program that ends in any
# other way is not started again.
_CRASHES = (-signal.SIGABRT, -signal.SIGSEGV)
_ATTEMPTS = 4


def output_of(program: str, *arguments: str) -> Any:
    """What the program printed as JSON."""
    # Unoptimised code takes half the time to compile.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", f"tests.programs.{program}", *arguments]
    for _ in range(_ATTEMPTS):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        if done.returncode not in _CRASHES:
            break
    assert done.returncode == 0, (done.returncode, done.stderr)
    return json.loads(done.stdout)
