"""Training: fine-tune a detector, or train one from random weights.

    run = Run("manifest.csv", "runs/first", RunConfig(training=TrainingConfig(steps=500)), init="org/model")
    for event in run:
        print(event)

The best network is in `runs/first/best`. An interrupted run is resumed by creating the same `Run` again.
"""

from spectra_jax.errors import TrainingError
from spectra_jax.training.augment import AugmentConfig, augment
from spectra_jax.training.config import RunConfig, TrainingConfig
from spectra_jax.training.curves import write_curves
from spectra_jax.training.data import Batch, Batches, read_manifest
from spectra_jax.training.export import BEST
from spectra_jax.training.log import EvaluationEvent, StepEvent, read_log
from spectra_jax.training.run import Run
from spectra_jax.training.sampling import Clip

__all__ = [
    "BEST",
    "AugmentConfig",
    "Batch",
    "Batches",
    "Clip",
    "EvaluationEvent",
    "Run",
    "RunConfig",
    "StepEvent",
    "TrainingConfig",
    "TrainingError",
    "augment",
    "read_log",
    "read_manifest",
    "write_curves",
]
