"""The best network of a run, in the native format: `spectra-jax score --model DIR/best`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.native import replace_weights, write_native
from spectra_jax.hub import CONFIG, WEIGHTS
from spectra_jax.training.config import RunConfig
from spectra_jax.training.log import EvaluationEvent
from spectra_jax.training.step import Leaves

BEST = "best"


def export_best(
    output: Path, config: RunConfig, identity: Mapping[str, Any], leaves: Leaves, evaluation: EvaluationEvent
) -> None:
    """Write the network into `output`/best, or replace the one that is there.

    Args:
      output: the run's directory.
      config: of the run.
      identity: of the run: the provenance names its manifest, and the detector or encoder that it started from.
      leaves: of the network, by their paths.
      evaluation: of this network.

    Raises:
      OSError: the disk is full, or the like: the network before is kept.
    """
    provenance = {
        "trained_by": "spectra-jax train",
        "training_step": str(evaluation.step),
        "training_dev_eer": f"{evaluation.eer:.6f}",
        "training_manifest_sha256": identity["manifest_sha256"],
        "training_config_sha256": hashlib.sha256(config.to_json().encode()).hexdigest(),
    }
    if identity["init"] is not None:
        provenance["training_init"] = f"{identity['init']} (sha256 {identity['init_sha256']})"
    if "encoder" in identity:
        provenance["training_encoder"] = f"{identity['encoder']} (sha256 {identity['encoder_sha256']})"
    read = {path: (lambda leaf=leaf: np.asarray(leaf)) for path, leaf in leaves.items()}
    path = output / BEST
    checkpoint = Checkpoint(config.model, read, f"step {evaluation.step}", path / WEIGHTS, provenance)
    if (path / CONFIG).exists():
        replace_weights(checkpoint, path)
    else:
        write_native(checkpoint, path)
