"""Fixtures of the tests of checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.native import write_native
from tests.checkpoints.native_files import Tensors, metadata_of


@pytest.fixture(scope="module")
def native(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network in the native format; not to be changed."""
    directory = tmp_path_factory.mktemp("checkpoint") / "native"
    write_native(tiny_checkpoint, directory, {"source": "a test"})
    return directory


@pytest.fixture
def altered(native: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a copy of the native tiny network with its tensors or metadata changed."""

    def alter(change: Callable[[Tensors], object] = dict, **facts: str) -> Path:
        directory = tmp_path / "altered"
        shutil.copytree(native, directory)
        tensors = load_file(native / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors", {**metadata_of(native), **facts})
        return directory

    return alter
