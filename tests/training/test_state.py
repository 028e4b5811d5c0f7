"""Saved states: they are resumed on another number of devices and in another layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.forced_devices import output_of

LAYOUTS: list[tuple[int, dict[str, Any]]] = [(1, {}), (2, {"sharding": {"tensor": 2}}), (8, {"sharding": "fsdp"})]


def train(manifest: Path, runs: list[tuple[int, Path, int, dict[str, Any]]]) -> list[dict[str, float]]:
    """The losses of each run: its devices, directory, last step, and options of the training."""
    names = "devices", "directory", "last_step", "training"
    cases = [dict(zip(names, run, strict=True)) for run in runs]
    return output_of("run_until", cases, str(manifest))


@pytest.fixture(scope="module")
def resumed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any]]:
    """The losses of the last steps of a run without interruption, and of runs resumed in each of `LAYOUTS`.

    All were stopped after two steps on four devices.
    """
    folder = tmp_path_factory.mktemp("saved")
    first, complete = train(
        manifest, [(4, folder / "stopped", 2, {"sharding": "fsdp"}), (1, folder / "complete", 6, {})]
    )
    assert first == pytest.approx({name: complete[name] for name in first}, rel=1e-5)
    copies = [shutil.copytree(folder / "stopped", folder / f"resumed-{devices}") for devices, _ in LAYOUTS]
    runs = [(devices, copy, 6, training) for copy, (devices, training) in zip(copies, LAYOUTS, strict=True)]
    return {name: loss for name, loss in complete.items() if name not in first}, train(manifest, runs)


@pytest.mark.long
@pytest.mark.parametrize("index", range(len(LAYOUTS)), ids=[str(layout) for layout in LAYOUTS])
def test_a_run_is_resumed_on_other_devices(index: int, resumed: tuple[Any, list[Any]]) -> None:
    remaining, losses = resumed
    assert losses[index] == pytest.approx(remaining, rel=1e-5)
