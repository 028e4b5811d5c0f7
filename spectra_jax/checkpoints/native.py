"""The native format: a directory with `config.json` and `model.safetensors`.

The tensors are named by their Flax paths and have the layout of the Flax variables: loading needs no conversion. The
metadata state where the weights came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from spectra_jax.checkpoints.checkpoint import Checkpoint, weight_shapes
from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.checkpoints.family import describe_mismatch
from spectra_jax.errors import CheckpointError
from spectra_jax.files.atomic import atomic_directory, atomic_file
from spectra_jax.files.tensor_file import TensorFile, TensorSpec, header_problems, write_tensors
from spectra_jax.hub import CONFIG, WEIGHTS
from spectra_jax.model.config import SpectraConfig

FORMAT = "spectra-jax"
FORMAT_VERSION = "1"


def read_native(directory: str | Path, name: str | None = None) -> Checkpoint:
    """Open a native checkpoint.

    Args:
      directory: holds `config.json` and `model.safetensors`.
      name: the name of the checkpoint in messages; the directory otherwise.

    Raises:
      CheckpointError: names, shapes or dtypes are not those of the configuration's network.
      ConfigError, TensorFileError, OSError: a file is not valid, or cannot be read.
    """
    directory = Path(directory)
    config = read_config(directory / CONFIG)
    file = TensorFile(directory / WEIGHTS)
    name = name or str(directory)
    version = file.metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{name}: written in version {version} of the native format, and this package reads version "
            f"{FORMAT_VERSION}; convert the original weights again"
        )
    problems = header_problems(file.specs, _specs_on_disk(config), "tensor")
    if problems:
        mismatch = describe_mismatch(file.specs, config)
        raise CheckpointError(f"{name}: {mismatch or f'not the network that its {CONFIG} describes'}", problems)
    read = {path: (lambda path=path: file.read(path)) for path in file.specs}
    return Checkpoint(config, read, name, file.path, provenance=dict(file.metadata))


FLOAT64_WEIGHTS = frozenset({"encoder.positional_convolution.conv.kernel"})
"""Weights that are float64 on disk: a kernel multiplied with its weight norm. The product of two float32 numbers has
more digits than float32, and with rounding float64 results would differ from the reference."""


def _specs_on_disk(config: SpectraConfig) -> dict[str, TensorSpec]:
    """Every tensor in the native file of a network."""

    def dtype(path: str, weight: jax.ShapeDtypeStruct) -> str:
        if jnp.issubdtype(weight.dtype, jnp.integer):
            return "I32"
        return "F64" if path in FLOAT64_WEIGHTS else "F32"

    return {path: TensorSpec(dtype(path, weight), weight.shape) for path, weight in weight_shapes(config).items()}


def write_native(checkpoint: Checkpoint, directory: str | Path, provenance: Mapping[str, str] | None = None) -> None:
    """Write a native checkpoint, one weight at a time. The directory appears when it is complete, or not at all.

    Args:
      checkpoint: a checkpoint of any format.
      directory: must not exist yet, or be empty.
      provenance: the metadata of the file; those of the checkpoint otherwise.

    Raises:
      CheckpointError: the weights are damaged; nothing was written.
      FileExistsError: the directory is not empty.
      OSError: the disk is full or not writable; nothing was written.
    """
    with atomic_directory(directory) as partial:
        (partial / CONFIG).write_text(checkpoint.config.to_json(), encoding="utf-8")
        with (partial / WEIGHTS).open("wb") as file:
            _write_weights(checkpoint, file, checkpoint.provenance if provenance is None else provenance)


def replace_weights(checkpoint: Checkpoint, directory: str | Path) -> None:
    """Replace the weights of a native checkpoint by others of the same network, atomically.

    Raises:
      CheckpointError: the weights are damaged; the directory is unchanged.
      OSError: the disk is full or not writable; the directory is unchanged.
    """
    with atomic_file(Path(directory) / WEIGHTS) as file:
        _write_weights(checkpoint, file, checkpoint.provenance)


def _write_weights(checkpoint: Checkpoint, file: BinaryIO, provenance: Mapping[str, str]) -> None:
    metadata = {**provenance, "format": FORMAT, "format_version": FORMAT_VERSION}
    arrays = ((path, array.astype(np.float64) if path in FLOAT64_WEIGHTS else array) for path, array in checkpoint)
    write_tensors(file, _specs_on_disk(checkpoint.config), arrays, metadata)
