"""The scorer that tests of scoring share."""

from __future__ import annotations

import jax
import pytest

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import load_model
from spectra_jax.inference.scorer import Scorer
from spectra_jax.model.spectra import SpectraAASIST3


@pytest.fixture(scope="session")
def model(tiny_checkpoint: Checkpoint) -> SpectraAASIST3:
    """The tiny golden network in float64."""
    with jax.enable_x64(True):
        return load_model(tiny_checkpoint, "float64")


@pytest.fixture(scope="session")
def scorer(model: SpectraAASIST3) -> Scorer:
    """In float64, where a score is a property of the clip; three clips at a time."""
    return Scorer(model, batch_size=3)


@pytest.fixture
def few_threads(monkeypatch: pytest.MonkeyPatch) -> int:
    """Two threads decode."""
    monkeypatch.setattr("spectra_jax.inference.decoding.DECODER_THREADS", 2)
    return 2
