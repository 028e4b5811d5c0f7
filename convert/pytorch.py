"""Reading and writing PyTorch checkpoints of the published detectors, without PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from spectra_jax.checkpoints.checkpoint import Checkpoint, weight_shapes
from spectra_jax.checkpoints.family import FAMILY, describe_mismatch, find_detector
from spectra_jax.convert.entries import Entry
from spectra_jax.convert.pytorch_file import (
    PyTorchFile,
    canonical_names,
    check_tensors,
    float_dtypes,
    in_file_order,
    parallel_prefix,
    pytorch_tensors,
    stored_tensors,
)
from spectra_jax.convert.table import POSITIONAL, WEIGHT_NORM, WEIGHT_NORM_OLD, expand
from spectra_jax.errors import CheckpointError
from spectra_jax.files.atomic import atomic_file
from spectra_jax.files.tensor_file import TensorSpec, header_problems, open_tensors, write_tensors
from spectra_jax.model.config import ENCODER_ALONE, SpectraConfig
from spectra_jax.model.kan import knots


def _entries_and_specs(config: SpectraConfig) -> tuple[list[Entry], dict[str, TensorSpec]]:
    """The table's entries for a network, and dtype and shape of every tensor of its PyTorch file.

    Raises:
      CheckpointError: the network has another back-end or head than the published detectors.
    """
    if find_detector(config) is None:
        raise CheckpointError(
            f"the network has the back-end {config.back_end} and the head {config.head}, and the PyTorch format has "
            f"names for {', '.join(FAMILY)} with logits only: keep this network in the native format"
        )
    shapes = weight_shapes(config)
    entries = expand(config, shapes)
    specs = stored_tensors(entries, shapes, POSITIONAL, WEIGHT_NORM)
    num_knots = knots(config.kan).size
    for entry in entries:
        if entry.source.endswith(".spline_scaler"):
            features = specs[entry.source].shape[1]
            specs[entry.source.replace("spline_scaler", "grid")] = TensorSpec("F32", (features, num_knots))
    return entries, specs


def read_pytorch(path: str | Path, config: SpectraConfig, name: str | None = None) -> Checkpoint:
    """Open a PyTorch checkpoint of the network in safetensors form.

    Strict: every tensor of the file is used exactly once, every weight is set exactly once, shapes and dtypes agree,
    each `grid` holds the knots of the configuration. All wrong names in a file are reported together. Three variants
    are accepted, and the last two are recorded in the provenance: the older names of weight normalization; the prefix
    `module.` of all names, which PyTorch's data parallelism adds (`names_without`); and weights in float16 or bfloat16,
    all or some of them (`source_dtype`), whose values float32 represents exactly.

    Args:
      path: the `.safetensors` file, or the index of several.
      config: the architecture, which such files do not contain.
      name: the name of the file in messages and provenance; its path otherwise.

    Raises:
      CheckpointError: not the network of the configuration. Values are checked while the weights are read.
      TensorFileError, OSError: not a complete safetensors file, or not readable.
    """
    tensors = open_tensors(path)
    name = name or str(path)
    entries, specs = _entries_and_specs(config)
    prefix = parallel_prefix(tensors.specs)
    file = PyTorchFile(tensors, canonical_names(tensors.specs, prefix, WEIGHT_NORM, WEIGHT_NORM_OLD))
    _check_header(name, file.specs, specs, config)
    checks = [_grid_check(file, tensor, knots(config.kan)) for tensor in specs if tensor.endswith(".grid")]
    checks += [_count_check(file, tensor) for tensor, spec in specs.items() if spec.dtype == "I64"]
    dtypes = float_dtypes(tensors.specs.values())
    return Checkpoint(
        config,
        {entry.target: file.reader(entry, WEIGHT_NORM) for entry in in_file_order(entries, file, WEIGHT_NORM)},
        name,
        tensors.path,
        provenance={
            "source": name,
            "source_format": "pytorch",
            **({"names_without": prefix} if prefix else {}),
            **({"source_dtype": dtypes} if dtypes != "float32" else {}),
        },
        checks=checks,
    )


def _grid_check(file: PyTorchFile, tensor: str, expected: Float32[np.ndarray, " knots"]) -> Callable[[], str | None]:
    """A function that returns a problem if a tensor does not hold the expected knots in every row."""

    def check() -> str | None:
        grid = file.read(tensor)
        if np.array_equal(grid, np.broadcast_to(expected.astype(grid.dtype), grid.shape)):
            return None
        return f"{tensor} holds other knots than the configuration's ({expected[0]} to {expected[-1]})"

    return check


def _count_check(file: PyTorchFile, tensor: str) -> Callable[[], str | None]:
    """A function that returns a problem if a tensor is not a number of batches."""
    limit = np.iinfo(np.int32).max

    def check() -> str | None:
        count = file.read(tensor)
        if 0 <= count <= limit:
            return None
        return f"{tensor} = {count}, but a count of batches from 0 to {limit:,} was expected"

    return check


def _check_header(
    name: str, found: dict[str, TensorSpec], expected: dict[str, TensorSpec], config: SpectraConfig
) -> None:
    """Check that a file has the tensors of the detector; an encoder alone or another detector is named."""
    if has_encoder_only(found):
        raise CheckpointError(
            f"{name}: {ENCODER_ALONE}. With the config.json of transformers beside it, "
            "`spectra_jax.encoders.from_pretrained` loads it"
        )
    if mismatch := describe_mismatch(found, config):
        raise CheckpointError(f"{name}: {mismatch}", header_problems(found, expected, "tensor"))
    check_tensors(name, found, expected, FAMILY[config.back_end].name)


# A layer of the encoder, by its names in transformers and in fairseq.
_ENCODER_LAYER = re.compile(r"(.*\.)?encoder\.layers\.\d+\.(attention|self_attn)\..+")
_BACK_END = re.compile(r"(.*\.)?(aasist|bridge|ecapa_tdnn)\..+")


def has_encoder_only(names: Iterable[str]) -> bool:
    """Whether the tensors are those of a speech encoder, without the detector's back-end."""
    names = list(names)
    return any(map(_ENCODER_LAYER.fullmatch, names)) and not any(map(_BACK_END.fullmatch, names))


def write_pytorch(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint in the format of the PyTorch reference. The file appears when it is complete, or not at all.

    All tensors have the published names. Reading and writing a checkpoint keeps every bit, apart from the weight norm
    of the positional convolution: its magnitude is the same, its direction has unit scale, and their product is equal
    to within one float32 ulp.

    Raises:
      CheckpointError: the weights are damaged; nothing was written.
      OSError: the disk is full or not writable; nothing was written.
    """
    entries, specs = _entries_and_specs(checkpoint.config)

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        yield from pytorch_tensors(checkpoint, entries, specs, WEIGHT_NORM)
        row = knots(checkpoint.config.kan)
        for tensor, spec in specs.items():
            if tensor.endswith(".grid"):
                yield tensor, np.broadcast_to(row, spec.shape)

    with atomic_file(path) as file:
        write_tensors(file, specs, tensors())
