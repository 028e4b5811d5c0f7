"""Programs of `tests.programs` on eight forced devices of the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def output_of(program: str, cases: Sequence[Mapping[str, Any]], *arguments: str) -> list[Any]:
    """What the program printed for each case: an object of JSON on a line of its own."""
    # Unoptimised code takes half the time to compile.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", f"tests.programs.{program}", json.dumps(cases, default=str), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, (done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]
