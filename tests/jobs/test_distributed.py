"""Indices from `jax.distributed`, which is left again."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "programs" / "distributed_sigterm.py"


@pytest.mark.slow
def test_sigterm_is_handled_as_before() -> None:
    """JAX puts a handler of its own below Python's, with which a process would continue to its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    run = subprocess.run([sys.executable, str(PROGRAM), address], capture_output=True, text=True)
    assert run.returncode == 7, run.stderr
