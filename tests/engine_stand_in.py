"""Engines without a compiled network, for tests of what surrounds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from spectra_jax.checkpoints.load import abstract_inference_model
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.inference.batch_size import total_batch_size
from spectra_jax.inference.engine import BatchScores, Engine
from spectra_jax.inference.scorer import Scorer
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import SpectraAASIST3
from tests.conftest import GOLDEN


class StandInEngine:
    """An `Engine` whose outputs are those of a function of the windows.

    Args:
      model: shapes are enough.
      batch_size: as of any engine.
      compute: windows (n, samples) -> outputs (n, 2), or an object that is converted to them when they are collected.
    """

    def __init__(self, model: SpectraAASIST3, batch_size: int, compute: Callable[[np.ndarray], Any]):
        self.model, self.batch_size, self._compute = model, batch_size, compute

    def dispatch(self, windows: np.ndarray) -> Any:
        return self._compute(windows)

    def collect(self, windows: np.ndarray, in_flight: Any) -> BatchScores:
        return BatchScores(np.asarray(in_flight)[: len(windows)], np.zeros(len(windows), bool))


def first_samples(windows: np.ndarray) -> np.ndarray:
    """Two samples of each window as its logits."""
    return windows[:, :2].astype(np.float64)


def build_stand_in(
    source: str | Path,
    precision: Precision,
    *,
    batch_size: Any,
    devices: Sequence[jax.Device],
    num_clips: int | None = None,
    **_: object,
) -> Engine:
    """Instead of `build_engine`: an engine of the same batch size, whose logits are the first samples."""
    model = abstract_inference_model(open_checkpoint(source).config, precision)
    return StandInEngine(model, total_batch_size(batch_size, model, precision, devices, num_clips), first_samples)


def stand_in_scorer(compute: Callable[[np.ndarray], Any], batch_size: int = 3) -> Scorer:
    """A scorer for the tiny golden network's windows, whose logits are those of a function of them."""
    scorer = Scorer(GOLDEN / "tiny", precision="float64", batch_size=batch_size)
    model = abstract_inference_model(open_checkpoint(GOLDEN / "tiny").config, "float64")
    scorer.engine = StandInEngine(model, batch_size, compute)
    return scorer
