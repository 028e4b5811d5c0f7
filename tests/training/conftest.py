"""A corpus, and a run on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import pytest

from spectra_jax.training import Run
from tests.training.runs import config, write_corpus


@contextmanager
def without_optimisations() -> Iterator[None]:
    """A step takes twice as long to compile with XLA's optimisations, and these tests do not depend on speed."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", autouse=True)
def unoptimised() -> Iterator[None]:
    with without_optimisations():
        yield


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 16 clips to train on, and 12 of the dev split."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A run of six steps: its directory and its events."""
    output = tmp_path_factory.mktemp("runs") / "finished"
    with without_optimisations():
        return output, list(Run(manifest, output, config(augment={"noise": 0.5})))
