"""A corpus, and a run on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spectra_jax.training import Run
from tests.conftest import without_optimizations
from tests.training.runs import config, write_corpus


@pytest.fixture(scope="module", autouse=True)
def unoptimized(unoptimized: None) -> None:
    """All of these tests compile steps of training."""


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 16 clips to train on, and 12 of the dev split."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A run of six steps: its directory and its events."""
    output = tmp_path_factory.mktemp("runs") / "finished"
    with without_optimizations():
        return output, list(Run(manifest, output, config(augment={"noise": 0.5})))
