"""Checkpoints: the network's leaves, read lazily and strictly, and the native format on disk.

A native checkpoint is a directory with `config.json` and `model.safetensors`; the tensors are named by their Flax paths
and laid out as Flax has them, so that loading is reading. Its metadata says where the weights came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spectra_jax.devices import local_devices
from spectra_jax.errors import CheckpointError
from spectra_jax.files.atomic import atomic_directory, atomic_file
from spectra_jax.files.tensor_file import TensorFile, TensorSpec, header_problems, open_tensors, write_tensors
from spectra_jax.hub import CONFIG, WEIGHTS
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import SpectraAASIST3, abstract_model

FORMAT = "spectra-jax"
FORMAT_VERSION = "1"


@lru_cache(maxsize=8)
def leaf_shapes(config: SpectraConfig) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Every leaf of the network by its Flax path, such as `encoder.layers.0.attention.query.kernel`."""
    _, state = _abstract(config, Precision.of("float32"))
    return {path: leaf.get_value() for path, leaf in _by_path(state).items()}


@lru_cache(maxsize=8)
def _abstract(config: SpectraConfig, precision: Precision) -> tuple[nnx.GraphDef[Any], nnx.State[Any, Any]]:
    """`abstract_model`, split. Made once: it takes longer than all else about a checkpoint but its weights."""
    return nnx.split(abstract_model(config, precision))


def _by_path(state: nnx.State[Any, Any]) -> dict[str, Any]:
    return {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}


@dataclass(frozen=True)
class Checkpoint:
    """A network's configuration, its leaves, and where they came from.

    Iterating reads the leaves, one in memory at a time, as `(Flax path, array)`. Only when the iteration has ended
    without a `CheckpointError` are all of them known to be sound: whoever writes them must be ready to discard.
    """

    config: SpectraConfig
    read: Mapping[str, Callable[[], np.ndarray]]
    """How to read each leaf, in the best order for the file."""
    name: str
    """What the person called it."""
    weights: Path
    """The file that the leaves are read from; of several, their index."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    checks: Iterable[Callable[[], str | None]] = ()
    """Further checks of the file's contents, each returning a problem or nothing."""

    def sha256(self) -> str:
        """The digest of the weights' file; of several, see `tensor_file.combined_sha256`."""
        return open_tensors(self.weights).sha256()

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        problems = []
        for path, read in self.read.items():
            array = read()
            bad = array.size - np.count_nonzero(np.isfinite(array))
            if bad:
                problems.append(f"{path}: {bad:,} of {array.size:,} values are NaN or infinite")
            yield path, array
        problems += [problem for check in self.checks if (problem := check())]
        if problems:
            raise CheckpointError(f"{self.name}: damaged weights", problems)


def read_native(directory: str | Path, name: str | None = None) -> Checkpoint:
    """Open a native checkpoint.

    Args:
      directory: holds `config.json` and `model.safetensors`.
      name: what to call it in messages; the directory otherwise.

    Raises:
      CheckpointError: names, shapes or dtypes are not those of the configuration's network.
      ConfigError, TensorFileError, OSError: the files cannot be read as what they should be.
    """
    directory = Path(directory)
    config = SpectraConfig.from_json(directory / CONFIG)
    file = TensorFile(directory / WEIGHTS)
    name = name or str(directory)
    version = file.metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{name}: written in version {version} of the native format, and this package reads version "
            f"{FORMAT_VERSION}; convert the original weights again"
        )
    problems = header_problems(file.specs, _specs_on_disk(config), "leaf")
    if problems:
        raise CheckpointError(f"{name}: not the network that its {CONFIG} describes", problems)
    read = {path: (lambda path=path: file.read(path)) for path in file.specs}
    return Checkpoint(config, read, name, file.path, provenance=dict(file.metadata))


WIDE_LEAVES = frozenset({"encoder.positional_convolution.conv.kernel"})
"""Leaves kept in float64 on disk: a folded weight norm. The product of two float32 numbers is no float32 number, and
rounding it would be the one thing in which float64 results differ from the reference."""


def _specs_on_disk(config: SpectraConfig) -> dict[str, TensorSpec]:
    """Every tensor of a network's native file."""

    def dtype(path: str, leaf: jax.ShapeDtypeStruct) -> str:
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return "I32"
        return "F64" if path in WIDE_LEAVES else "F32"

    return {path: TensorSpec(dtype(path, leaf), leaf.shape) for path, leaf in leaf_shapes(config).items()}


def write_native(checkpoint: Checkpoint, directory: str | Path, provenance: Mapping[str, str] | None = None) -> None:
    """Write a native checkpoint, leaf by leaf. The directory appears when it is whole, or not at all.

    Args:
      checkpoint: from any source.
      directory: must not exist yet, or be empty.
      provenance: goes into the file's metadata; the checkpoint's own otherwise.

    Raises:
      CheckpointError: the leaves turned out damaged; nothing was written.
      FileExistsError: the directory holds something already.
      OSError: the disk is full or not writable; nothing was left behind.
    """
    with atomic_directory(directory) as partial:
        (partial / CONFIG).write_text(checkpoint.config.to_json(), encoding="utf-8")
        with (partial / WEIGHTS).open("wb") as file:
            _write_weights(checkpoint, file, checkpoint.provenance if provenance is None else provenance)


def replace_weights(checkpoint: Checkpoint, directory: str | Path) -> None:
    """Put other weights of the same network into a native checkpoint, in one step.

    Raises:
      CheckpointError: the leaves turned out damaged; the directory is as it was.
      OSError: the disk is full or not writable; likewise.
    """
    with atomic_file(Path(directory) / WEIGHTS) as file:
        _write_weights(checkpoint, file, checkpoint.provenance)


def _write_weights(checkpoint: Checkpoint, file: BinaryIO, provenance: Mapping[str, str]) -> None:
    metadata = {**provenance, "format": FORMAT, "format_version": FORMAT_VERSION}
    arrays = ((path, array.astype(np.float64) if path in WIDE_LEAVES else array) for path, array in checkpoint)
    write_tensors(file, _specs_on_disk(checkpoint.config), arrays, metadata)


def load_model(checkpoint: Checkpoint, precision: Precision | str = "float32") -> SpectraAASIST3:
    """Put a checkpoint's leaves on the default device, as a network ready to score.

    With `bfloat16` the weights of the encoder's products are held in bfloat16. `float64` needs x64 here as well:
    `with jax.enable_x64(True):`.

    Raises:
      CheckpointError: the weights are damaged.
      ValueError: float64 without x64, or JAX cannot start its devices.
    """
    local_devices()
    return filled(held_model(checkpoint.config, precision), checkpoint)


def filled(held: SpectraAASIST3, checkpoint: Checkpoint) -> SpectraAASIST3:
    """What `held_model` gives, with a checkpoint's leaves in place of their shapes; raises as `load_model` does."""
    held.precision.require_mode()
    graph, state = nnx.split(held)
    leaves = _by_path(state)
    for path, array in checkpoint:
        leaves[path].set_value(jnp.asarray(array, leaves[path].get_value().dtype))
    return nnx.merge(graph, state)


def held_model(config: SpectraConfig, precision: Precision | str = "float32") -> SpectraAASIST3:
    """The network that `load_model` makes, with the shape and dtype that each leaf will have in place of its weights.

    What is compiled for it fits the loaded one, so that compiling need not wait for the weights.
    """
    precision = Precision.of(precision)
    graph, state = _abstract(config, precision)
    # Its variables are shared by all that ask, and those of a network are set.
    state = jax.tree.map(lambda leaf: leaf, state)
    for path, leaf in _by_path(state).items():
        # The positional convolution's stays as it is: some backends compute it in float32 whatever the precision.
        if path.startswith(("encoder.feature_", "encoder.layers.")) and path.endswith(".kernel"):
            shape = leaf.get_value().shape
            leaf.set_value(jax.ShapeDtypeStruct(shape, precision.operand_dtype))
    return nnx.merge(graph, state)
