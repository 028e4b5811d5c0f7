"""Saved states: they are resumed on another number of devices and in another layout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def train(num_devices: int, manifest: Path, directory: Path, last_step: int, settings: dict[str, Any]) -> Any:
    """The losses of `tests.programs.run_until` on this many forced devices."""
    # Unoptimised code takes half the time to compile.
    flags = f"--xla_force_host_platform_device_count={num_devices} --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    arguments = [str(manifest), str(directory), str(last_step), json.dumps(settings)]
    command = [sys.executable, "-m", "tests.programs.run_until", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def saved(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A run that was stopped after two steps on four devices, and the losses of the same run without interruption."""
    folder = tmp_path_factory.mktemp("saved")
    first = train(4, manifest, folder / "stopped", 2, {"sharding": "fsdp"})
    complete = train(1, manifest, folder / "complete", 6, {})
    assert first == pytest.approx({name: complete[name] for name in first}, rel=1e-5)
    return folder / "stopped", {name: loss for name, loss in complete.items() if name not in first}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_devices", "settings"),
    [(1, {}), (2, {"sharding": {"tensor": 2}}), (8, {"sharding": "fsdp"})],
    ids=str,
)
def test_a_run_is_resumed_on_other_devices(
    num_devices: int, settings: dict[str, Any], saved: tuple[Path, dict[str, float]], manifest: Path, tmp_path: Path
) -> None:
    stopped, remaining = saved
    shutil.copytree(stopped, tmp_path / "run")
    assert train(num_devices, manifest, tmp_path / "run", 6, settings) == pytest.approx(remaining, rel=1e-5)
