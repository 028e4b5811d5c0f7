"""Reading and writing PyTorch checkpoints of the network, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from spectra_jax.atomic import atomic_file
from spectra_jax.checkpoint import Checkpoint, CheckpointError, leaf_shapes
from spectra_jax.config import SpectraConfig
from spectra_jax.convert.table import POSITIONAL, WEIGHT_NORM, WEIGHT_NORM_OLD, Entry, expand
from spectra_jax.model.kan import knots
from spectra_jax.tensor_file import TensorFile, TensorSpec, write_tensors


def _network(config: SpectraConfig) -> tuple[list[Entry], dict[str, TensorSpec]]:
    """The table's entries for a network, and dtype and shape of every tensor its PyTorch file has."""
    shapes = leaf_shapes(config)
    entries = expand(config, shapes)
    filled = [entry.target for entry in entries]
    # The table against the network, from the network's end. The file's end is checked when one is read.
    unfilled = sorted(set(shapes) - set(filled))
    if unfilled or len(filled) != len(set(filled)):
        raise AssertionError(f"the name table does not fill each leaf once: {unfilled or filled}")
    specs = {entry.source: _source_spec(entry, shapes[entry.target]) for entry in entries}
    out, in_per_group, taps = specs.pop(f"{POSITIONAL}.weight").shape
    specs |= {
        WEIGHT_NORM[0]: TensorSpec("F32", (1, 1, taps)),
        WEIGHT_NORM[1]: TensorSpec("F32", (out, in_per_group, taps)),
    }
    num_knots = knots(config.kan).size
    for entry in entries:
        if entry.source.endswith(".spline_scaler"):
            features = specs[entry.source].shape[1]
            specs[entry.source.replace("spline_scaler", "grid")] = TensorSpec("F32", (features, num_knots))
    return entries, specs


def _source_spec(entry: Entry, leaf: jax.ShapeDtypeStruct) -> TensorSpec:
    dtype = "I64" if np.issubdtype(leaf.dtype, np.integer) else "F32"
    return TensorSpec(dtype, tuple(leaf.shape[axis] for axis in entry.back))


def read_pytorch(path: str | Path, config: SpectraConfig, name: str | None = None) -> Checkpoint:
    """Open a PyTorch checkpoint of the network in safetensors form.

    Strict: every tensor of the file is used exactly once, every leaf is filled exactly once, shapes and dtypes agree,
    each `grid` holds the configuration's knots. The names found in a wrong file are all reported together.

    Args:
      path: the `.safetensors` file.
      config: the architecture, which such files do not carry themselves.
      name: what to call the file in messages and provenance; its path otherwise.

    Raises:
      CheckpointError: not the configuration's network. Values are checked as the leaves are read.
      TensorFileError, OSError: not a whole safetensors file, or not readable.
    """
    file = TensorFile(path)
    name = name or str(path)
    entries, specs = _network(config)
    found = dict(zip(WEIGHT_NORM_OLD, WEIGHT_NORM, strict=True))
    # canonical name -> the name in the file
    names = {found.get(tensor, tensor) if WEIGHT_NORM[0] not in file.specs else tensor: tensor for tensor in file.specs}
    _check_header(name, {canonical: file.specs[tensor] for canonical, tensor in names.items()}, specs)

    def reader(entry: Entry):  # type: ignore[no-untyped-def]
        if entry.source == f"{POSITIONAL}.weight":
            return lambda: _fold(*(file.read(names[part]) for part in WEIGHT_NORM)).transpose(entry.axes)
        if specs[entry.source].dtype == "I64":
            return lambda: _count(file.read(names[entry.source]), f"{name}: {entry.source}")
        return lambda: file.read(names[entry.source]).transpose(entry.axes)

    expected = knots(config.kan)

    def grid_check(tensor: str):  # type: ignore[no-untyped-def]
        def check() -> str | None:
            grid = file.read(names[tensor])
            if np.array_equal(grid, np.broadcast_to(expected, grid.shape)):
                return None
            return f"{tensor} holds other knots than the configuration's ({expected[0]} to {expected[-1]})"

        return check

    position = {tensor: index for index, tensor in enumerate(names)}
    entries.sort(key=lambda entry: position.get(entry.source, position[WEIGHT_NORM[1]]))
    return Checkpoint(
        config,
        {entry.target: reader(entry) for entry in entries},
        name,
        file.path,
        provenance={"source": name, "source_format": "pytorch"},
        checks=[grid_check(tensor) for tensor in specs if tensor.endswith(".grid")],
    )


def _check_header(name: str, found: dict[str, TensorSpec], expected: dict[str, TensorSpec]) -> None:
    problems = [f"missing tensor {t} {list(spec.shape)}" for t, spec in expected.items() if t not in found]
    problems += [f"unexpected tensor {t} {list(spec.shape)}" for t, spec in found.items() if t not in expected]
    common = [tensor for tensor in expected if tensor in found]
    for tensor in common:
        spec, want = found[tensor], expected[tensor]
        if spec.shape != want.shape:
            problems.append(f"{tensor} has shape {list(spec.shape)}, expected {list(want.shape)}")
        if spec.dtype != want.dtype:
            problems.append(f"{tensor} has dtype {spec.dtype}, expected {want.dtype}")
    if not problems:
        return
    if len(common) < len(expected) / 2:
        summary = f"{name}: a checkpoint of another model: {len(common):,} of the {len(expected):,} tensors are there"
    elif len(common) == len(expected) == len(found):
        summary = (
            f"{name}: the right tensors, but not of the sizes that the configuration says; is its config.json there?"
        )
    else:
        summary = f"{name}: not a whole Spectra-AASIST3 checkpoint"
    raise CheckpointError(summary, problems)


def _fold(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The weight (out, in / groups, taps) of a convolution weight-normed over its first two axes, in float64."""
    v = v.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # a tap of zeros gives NaN, which is reported by its leaf
        return g.astype(np.float64) * v / np.sqrt(np.sum(v * v, axis=(0, 1), keepdims=True))


def _unfold(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and direction of a folded weight. The magnitude of a weight that `_fold` made is the one it had."""
    wide = weight.astype(np.float64)
    g = np.sqrt(np.sum(wide * wide, axis=(0, 1), keepdims=True))
    return g.astype(np.float32), weight.astype(np.float32)


def _count(value: np.ndarray, name: str) -> np.ndarray:
    limit = np.iinfo(np.int32).max
    if not 0 <= value <= limit:
        raise CheckpointError(f"{name} = {value}, but a count of batches from 0 to {limit:,} was expected")
    return value.astype(np.int32)


def write_pytorch(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint as the PyTorch reference has it: every tensor, by the published names. Appears whole or not.

    Everything but the weight-normed pair of the positional convolution is bit-exact there and back. That pair comes
    back with the same magnitude and a direction of unit scale; their product is equal to within one float32 ulp.

    Raises:
      CheckpointError: the leaves turned out damaged; nothing was written.
      OSError: the disk is full or not writable; nothing was left behind.
    """
    entries, specs = _network(checkpoint.config)
    by_target = {entry.target: entry for entry in entries}

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for target, leaf in checkpoint:
            entry = by_target[target]
            array = leaf.transpose(entry.back)
            if entry.source == f"{POSITIONAL}.weight":
                yield from zip(WEIGHT_NORM, _unfold(array), strict=True)
            else:
                yield entry.source, array.astype(np.int64 if specs[entry.source].dtype == "I64" else np.float32)
        row = knots(checkpoint.config.kan)
        for tensor, spec in specs.items():
            if tensor.endswith(".grid"):
                yield tensor, np.broadcast_to(row, spec.shape)

    with atomic_file(path) as file:
        write_tensors(file, specs, tensors())
