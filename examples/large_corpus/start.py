"""Write a detector with the back-end `kan-aasist` whose encoder and bridge come from one with another back-end.

    python -m examples.large_corpus.start FIRST CONFIG OUTPUT

FIRST is a checkpoint. CONFIG is a configuration of a run; the back-end starts from random weights of its seed. Give the
result to `spectra-jax train --init OUTPUT`. An encoder learns faster below a cheap back-end.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
from flax import nnx

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.native import write_native
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training.config import RunConfig
from spectra_jax.training.step import Network


def write_start(first: str, config: RunConfig, output: Path) -> None:
    """Write the detector of `config.model` with the encoder and the bridge of the checkpoint `first` into `output`."""
    network = Network(config.model, config.training.precision)
    leaves = network.leaves(SpectraAASIST3(config.model, rngs=nnx.Rngs(params=config.training.seed)))
    arrays = {path: np.asarray(leaf) for path, leaf in leaves.items()}
    for path, array in open_checkpoint(first):
        if path.startswith(("encoder.", "bridge.")):
            arrays[path] = np.asarray(array)
    read = {path: partial(np.asarray, array) for path, array in arrays.items()}
    write_native(Checkpoint(config.model, read, "a start", output, {"encoder_and_bridge_of": Path(first).name}), output)


if __name__ == "__main__":
    write_start(sys.argv[1], RunConfig.from_json(sys.argv[2]), Path(sys.argv[3]))
