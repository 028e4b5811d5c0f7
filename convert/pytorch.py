"""Reading and writing PyTorch checkpoints of the network, without PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Float32, Float64

from spectra_jax.checkpoints.checkpoint import Checkpoint, weight_shapes
from spectra_jax.convert.entries import Entry
from spectra_jax.convert.table import POSITIONAL, WEIGHT_NORM, WEIGHT_NORM_OLD, expand
from spectra_jax.errors import CheckpointError
from spectra_jax.files.atomic import atomic_file
from spectra_jax.files.tensor_file import (
    ShardedTensorFile,
    TensorFile,
    TensorSpec,
    header_problems,
    open_tensors,
    write_tensors,
)
from spectra_jax.model.config import ENCODER_ALONE, SpectraConfig
from spectra_jax.model.kan import knots


def _entries_and_specs(config: SpectraConfig) -> tuple[list[Entry], dict[str, TensorSpec]]:
    """The table's entries for a network, and dtype and shape of every tensor of its PyTorch file."""
    shapes = weight_shapes(config)
    entries = expand(config, shapes)
    targets = [entry.target for entry in entries]
    # Checks the table against the network. It is checked against the file when one is read.
    missing = sorted(set(shapes) - set(targets))
    if missing or len(targets) != len(set(targets)):
        raise AssertionError(f"the name table does not set each weight once: {missing or targets}")
    specs = {entry.source: _source_spec(entry, shapes[entry.target]) for entry in entries}
    out, in_per_group, size = specs.pop(f"{POSITIONAL}.weight").shape
    specs |= {
        WEIGHT_NORM[0]: TensorSpec("F32", (1, 1, size)),
        WEIGHT_NORM[1]: TensorSpec("F32", (out, in_per_group, size)),
    }
    num_knots = knots(config.kan).size
    for entry in entries:
        if entry.source.endswith(".spline_scaler"):
            features = specs[entry.source].shape[1]
            specs[entry.source.replace("spline_scaler", "grid")] = TensorSpec("F32", (features, num_knots))
    return entries, specs


def _source_spec(entry: Entry, weight: jax.ShapeDtypeStruct) -> TensorSpec:
    dtype = "I64" if np.issubdtype(weight.dtype, np.integer) else "F32"
    return TensorSpec(dtype, tuple(weight.shape[axis] for axis in entry.inverse_axes))


def read_pytorch(path: str | Path, config: SpectraConfig, name: str | None = None) -> Checkpoint:
    """Open a PyTorch checkpoint of the network in safetensors form.

    Strict: every tensor of the file is used exactly once, every weight is set exactly once, shapes and dtypes agree,
    each `grid` holds the knots of the configuration. All wrong names in a file are reported together. Three variants
    are accepted, and the last two are recorded in the provenance: the older names of weight normalization; the prefix
    `module.` of all names, which PyTorch's data parallelism adds (`names_without`); and all weights in float16 or
    bfloat16 (`source_dtype`), whose values float32 represents exactly.

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
    names = _names_in_file(tensors.specs)
    dtype = _common_float_dtype(tensors.specs)
    _check_header(name, {canonical: tensors.specs[own] for canonical, own in names.items()}, specs, dtype)
    file = _PyTorchFile(tensors, names)
    checks = [file.grid_check(tensor, knots(config.kan)) for tensor in specs if tensor.endswith(".grid")]
    checks += [file.count_check(tensor) for tensor, spec in specs.items() if spec.dtype == "I64"]
    position = {tensor: index for index, tensor in enumerate(names)}
    entries.sort(key=lambda entry: position.get(entry.source, position[WEIGHT_NORM[1]]))
    return Checkpoint(
        config,
        {entry.target: file.reader(entry, specs) for entry in entries},
        name,
        tensors.path,
        provenance={
            "source": name,
            "source_format": "pytorch",
            **({"names_without": _PARALLEL_PREFIX} if _is_parallel(tensors.specs) else {}),
            **({"source_dtype": _HALF_DTYPES[dtype]} if dtype in _HALF_DTYPES else {}),
        },
        checks=checks,
    )


@dataclass(frozen=True)
class _PyTorchFile:
    """A file whose header is that of the network."""

    tensors: TensorFile | ShardedTensorFile
    names: Mapping[str, str]
    """The name in the file of each tensor, by its canonical name."""

    def reader(self, entry: Entry, specs: Mapping[str, TensorSpec]) -> Callable[[], np.ndarray]:
        """A function that reads the weight of an entry."""
        if entry.source == f"{POSITIONAL}.weight":
            return lambda: _apply_weight_norm(*map(self._read_float32, WEIGHT_NORM)).transpose(entry.axes)
        if specs[entry.source].dtype == "I64":
            return lambda: self.tensors.read(self.names[entry.source]).astype(np.int32)
        return lambda: self._read_float32(entry.source).transpose(entry.axes)

    def _read_float32(self, tensor: str) -> Float32[np.ndarray, ...]:
        return self.tensors.read(self.names[tensor]).astype(np.float32, copy=False)

    def grid_check(self, tensor: str, expected: Float32[np.ndarray, " knots"]) -> Callable[[], str | None]:
        """A function that returns a problem if a tensor does not hold the expected knots in every row."""

        def check() -> str | None:
            grid = self.tensors.read(self.names[tensor])
            if np.array_equal(grid, np.broadcast_to(expected.astype(grid.dtype), grid.shape)):
                return None
            return f"{tensor} holds other knots than the configuration's ({expected[0]} to {expected[-1]})"

        return check

    def count_check(self, tensor: str) -> Callable[[], str | None]:
        """A function that returns a problem if a tensor is not a number of batches."""
        limit = np.iinfo(np.int32).max

        def check() -> str | None:
            count = self.tensors.read(self.names[tensor])
            if 0 <= count <= limit:
                return None
            return f"{tensor} = {count}, but a count of batches from 0 to {limit:,} was expected"

        return check


# The prefix that torch.nn.DataParallel and DistributedDataParallel add to all names.
_PARALLEL_PREFIX = "module."
_HALF_DTYPES = {"F16": "float16", "BF16": "bfloat16"}


def _is_parallel(names: Iterable[str]) -> bool:
    return all(name.startswith(_PARALLEL_PREFIX) for name in names)


def _names_in_file(names: Iterable[str]) -> dict[str, str]:
    """The name of each tensor in a file, by its canonical name: without the prefix, with the newer weight norm."""
    names = list(names)
    prefix = _PARALLEL_PREFIX if _is_parallel(names) else ""
    bare = {name.removeprefix(prefix): name for name in names}
    # The older names are renamed only if the file has none of the newer, so that two tensors never get one name.
    renamed = {} if set(WEIGHT_NORM) & set(bare) else dict(zip(WEIGHT_NORM_OLD, WEIGHT_NORM, strict=True))
    return {renamed.get(name, name): own for name, own in bare.items()}


def _common_float_dtype(specs: Mapping[str, TensorSpec]) -> str:
    """F16 or BF16 if all floating-point tensors have this dtype, otherwise F32."""
    dtypes = {spec.dtype for spec in specs.values() if spec.dtype not in ("I64", "I32")}
    return dtypes.pop() if len(dtypes) == 1 and dtypes <= set(_HALF_DTYPES) else "F32"


def _check_header(name: str, found: dict[str, TensorSpec], expected: dict[str, TensorSpec], dtype: str) -> None:
    """Check that a file has the expected tensors, the floating-point ones in the given dtype."""
    expected = {
        tensor: TensorSpec(dtype, spec.shape) if spec.dtype == "F32" else spec for tensor, spec in expected.items()
    }
    problems = header_problems(found, expected, "tensor")
    if not problems:
        return
    if _is_encoder(found):
        raise CheckpointError(f"{name}: {ENCODER_ALONE}")
    common = len(set(expected) & set(found))
    if common < len(expected) / 2:
        summary = f"{name}: a checkpoint of another model: it has {common:,} of the {len(expected):,} tensors"
    elif common < len(expected) or common < len(found):
        summary = (
            f"{name}: not the tensors of a Spectra-AASIST3 checkpoint of this configuration: "
            f"{len(expected) - common:,} missing, {len(found) - common:,} unexpected"
        )
    elif all(found[tensor].shape == spec.shape for tensor, spec in expected.items()):
        summary = f"{name}: the right tensors, but not in the precision of a Spectra-AASIST3 checkpoint"
    else:
        summary = f"{name}: the right tensors, but not of the sizes in the configuration; is its config.json beside it?"
    raise CheckpointError(summary, problems)


# A layer of the encoder, by its names in transformers and in fairseq.
_ENCODER_LAYER = re.compile(r"(.*\.)?encoder\.layers\.\d+\.(attention|self_attn)\..+")
_BACK_END = re.compile(r"(.*\.)?(aasist|bridge)\..+")


def _is_encoder(names: Iterable[str]) -> bool:
    """Whether the tensors are those of a speech encoder, without the detector's back-end."""
    names = list(names)
    return any(map(_ENCODER_LAYER.fullmatch, names)) and not any(map(_BACK_END.fullmatch, names))


def _apply_weight_norm(
    g: Float[np.ndarray, "1 1 size"], v: Float[np.ndarray, "outputs inputs_per_group size"]
) -> Float64[np.ndarray, "outputs inputs_per_group size"]:
    """The kernel with magnitude `g` and direction `v`, which is normalized over the first two axes, in float64."""
    v = v.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # zeros give NaN, which `Checkpoint` reports
        return g.astype(np.float64) * v / np.sqrt(np.sum(v * v, axis=(0, 1), keepdims=True))


def _split_weight_norm(
    kernel: Float[np.ndarray, "outputs inputs_per_group size"],
) -> tuple[Float32[np.ndarray, "1 1 size"], Float32[np.ndarray, "outputs inputs_per_group size"]]:
    """Magnitude and direction of a kernel. The magnitude is the one from which `_apply_weight_norm` computed it."""
    wide = kernel.astype(np.float64)
    g = np.sqrt(np.sum(wide * wide, axis=(0, 1), keepdims=True))
    # A power of two brings a direction to unit scale without rounding; a small one would lose digits in float32.
    # Zeros have no direction: with ones, PyTorch does not divide by zero.
    v = np.where(g > 0, np.ldexp(wide, -np.frexp(g)[1]), 1.0)
    return g.astype(np.float32), v.astype(np.float32)


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
    by_target = {entry.target: entry for entry in entries}

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for target, weight in checkpoint:
            entry = by_target[target]
            array = weight.transpose(entry.inverse_axes)
            if entry.source == f"{POSITIONAL}.weight":
                yield from zip(WEIGHT_NORM, _split_weight_norm(array), strict=True)
            else:
                yield entry.source, array.astype(np.int64 if specs[entry.source].dtype == "I64" else np.float32)
        row = knots(checkpoint.config.kan)
        for tensor, spec in specs.items():
            if tensor.endswith(".grid"):
                yield tensor, np.broadcast_to(row, spec.shape)

    with atomic_file(path) as file:
        write_tensors(file, specs, tensors())
