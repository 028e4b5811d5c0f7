"""A checkpoint of the network or of an encoder, in any format: its configuration, and how to read each weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from spectra_jax.errors import CheckpointError
from spectra_jax.files.tensor_file import open_tensors
from spectra_jax.model.config import EncoderConfig, SpectraConfig
from spectra_jax.model.encoder import SpeechEncoder
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import abstract_model


@dataclass(frozen=True)
class StoredWeights:
    """A configuration, the weights of its network, and where they came from.

    Iterating reads the weights, one in memory at a time, as `(Flax path, array)`. They are known to be sound only after
    the iteration has ended without a `CheckpointError`: a caller that writes them must be able to discard the output.
    """

    config: SpectraConfig | EncoderConfig
    read: Mapping[str, Callable[[], np.ndarray]]
    """A function for each weight that reads it, in the best order for the file."""
    name: str
    """The name of the checkpoint in messages."""
    weights: Path
    """The file that the weights are read from; for several files, their index."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    checks: Iterable[Callable[[], str | None]] = ()
    """Further checks of the file's contents, each returning a problem or None."""

    def sha256(self) -> str:
        """The digest of the file of weights; for several files, see `tensor_file.combined_sha256`."""
        return open_tensors(self.weights).sha256()

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        problems = []
        for path, read in self.read.items():
            array = read()
            not_finite = array.size - np.count_nonzero(np.isfinite(array))
            if not_finite:
                problems.append(f"{path}: {not_finite:,} of {array.size:,} values are NaN or infinite")
            yield path, array
        problems += [problem for check in self.checks if (problem := check())]
        if problems:
            raise CheckpointError(f"{self.name}: damaged weights", problems)


@dataclass(frozen=True)
class Checkpoint(StoredWeights):
    """A checkpoint of the complete detector."""

    config: SpectraConfig


@dataclass(frozen=True)
class EncoderCheckpoint(StoredWeights):
    """A checkpoint of a speech encoder alone. Its Flax paths begin at the encoder: `layers.0.attention_norm.scale`."""

    config: EncoderConfig


@lru_cache(maxsize=8)
def weight_shapes(config: SpectraConfig) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of every weight by its Flax path, such as `encoder.layers.0.attention.query.kernel`."""
    _, state = split_abstract_model(config, Precision.of("float32"))
    return {path: variable.get_value() for path, variable in variables_by_path(state).items()}


@lru_cache(maxsize=8)
def split_abstract_model(config: SpectraConfig, precision: Precision) -> tuple[nnx.GraphDef[Any], nnx.State[Any, Any]]:
    """`nnx.split` of the abstract network. Cached: building it takes longer than reading the rest of a checkpoint."""
    return nnx.split(abstract_model(config, precision))


@lru_cache(maxsize=8)
def encoder_weight_shapes(config: EncoderConfig) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of every weight of an encoder by its Flax path, such as `layers.0.attention.query.kernel`."""
    state = nnx.state(SpeechEncoder(config, precision="float32", rngs=None), nnx.Param)
    return {path: variable.get_value() for path, variable in variables_by_path(state).items()}


def variables_by_path(state: nnx.State[Any, Any]) -> dict[str, Any]:
    """The Flax variables of a state, by their paths with dots."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
