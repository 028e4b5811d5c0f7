"""Reading and writing PyTorch checkpoints of the network, without PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from spectra_jax.checkpoints.native import Checkpoint, leaf_shapes
from spectra_jax.convert.table import POSITIONAL, WEIGHT_NORM, WEIGHT_NORM_OLD, Entry, expand
from spectra_jax.errors import CheckpointError
from spectra_jax.files.atomic import atomic_file
from spectra_jax.files.tensor_file import TensorSpec, header_problems, open_tensors, write_tensors
from spectra_jax.model.config import ENCODER_ALONE, SpectraConfig
from spectra_jax.model.kan import knots


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
    each `grid` holds the configuration's knots. The names found in a wrong file are all reported together. Three
    differences are no others, and the last two are recorded in the provenance: the older names of weight normalization;
    a prefix `module.` of all names, as PyTorch's data parallelism leaves it (`names_without`); and all weights in
    float16 or bfloat16 (`source_dtype`), whose values float32 holds exactly.

    Args:
      path: the `.safetensors` file, or the index of several.
      config: the architecture, which such files do not carry themselves.
      name: what to call the file in messages and provenance; its path otherwise.

    Raises:
      CheckpointError: not the configuration's network. Values are checked as the leaves are read.
      TensorFileError, OSError: not a whole safetensors file, or not readable.
    """
    file = open_tensors(path)
    name = name or str(path)
    entries, specs = _network(config)
    names = _canonical(file.specs)
    dtype = _dtype_of_all(file.specs)
    _check_header(name, {canonical: file.specs[tensor] for canonical, tensor in names.items()}, specs, dtype)

    def floats(tensor: str) -> np.ndarray:
        return file.read(names[tensor]).astype(np.float32, copy=False)

    def reader(entry: Entry) -> Callable[[], np.ndarray]:
        if entry.source == f"{POSITIONAL}.weight":
            return lambda: _fold(*(floats(part) for part in WEIGHT_NORM)).transpose(entry.axes)
        if specs[entry.source].dtype == "I64":
            return lambda: file.read(names[entry.source]).astype(np.int32)
        return lambda: floats(entry.source).transpose(entry.axes)

    expected = knots(config.kan)

    def grid_check(tensor: str) -> Callable[[], str | None]:
        def check() -> str | None:
            grid = file.read(names[tensor])
            if np.array_equal(grid, np.broadcast_to(expected.astype(grid.dtype), grid.shape)):
                return None
            return f"{tensor} holds other knots than the configuration's ({expected[0]} to {expected[-1]})"

        return check

    def count_check(tensor: str) -> Callable[[], str | None]:
        limit = np.iinfo(np.int32).max

        def check() -> str | None:
            count = file.read(names[tensor])
            if 0 <= count <= limit:
                return None
            return f"{tensor} = {count}, but a count of batches from 0 to {limit:,} was expected"

        return check

    checks = [grid_check(tensor) for tensor in specs if tensor.endswith(".grid")]
    checks += [count_check(tensor) for tensor, spec in specs.items() if spec.dtype == "I64"]
    position = {tensor: index for index, tensor in enumerate(names)}
    entries.sort(key=lambda entry: position.get(entry.source, position[WEIGHT_NORM[1]]))
    return Checkpoint(
        config,
        {entry.target: reader(entry) for entry in entries},
        name,
        file.path,
        provenance={
            "source": name,
            "source_format": "pytorch",
            **({"names_without": _PARALLEL} if _is_parallel(file.specs) else {}),
            **({"source_dtype": _HALVES[dtype]} if dtype in _HALVES else {}),
        },
        checks=checks,
    )


# What torch.nn.DataParallel and DistributedDataParallel put before the names of what they wrap.
_PARALLEL = "module."
_HALVES = {"F16": "float16", "BF16": "bfloat16"}


def _is_parallel(names: Iterable[str]) -> bool:
    return all(name.startswith(_PARALLEL) for name in names)


def _canonical(names: Iterable[str]) -> dict[str, str]:
    """The names in a file by those that the network's tensors have: today's weight norm, no data parallelism."""
    names = list(names)
    cut = len(_PARALLEL) if _is_parallel(names) else 0
    bare = {name[cut:]: name for name in names}
    # The older names stand for the newer only where there is none of those, so that no two tensors become one.
    renamed = {} if set(WEIGHT_NORM) & set(bare) else dict(zip(WEIGHT_NORM_OLD, WEIGHT_NORM, strict=True))
    return {renamed.get(name, name): original for name, original in bare.items()}


def _dtype_of_all(specs: Mapping[str, TensorSpec]) -> str:
    """The dtype that all of a file's tensors of real numbers have: F16 or BF16 where that is so, else F32."""
    dtypes = {spec.dtype for spec in specs.values() if spec.dtype not in ("I64", "I32")}
    return dtypes.pop() if len(dtypes) == 1 and dtypes <= set(_HALVES) else "F32"


def _check_header(name: str, found: dict[str, TensorSpec], expected: dict[str, TensorSpec], dtype: str) -> None:
    """See that a file has the expected tensors, those of real numbers in one dtype."""
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
        summary = f"{name}: a checkpoint of another model: {common:,} of the {len(expected):,} tensors are there"
    elif common < len(expected) or common < len(found):
        summary = (
            f"{name}: not the tensors of a Spectra-AASIST3 checkpoint of this configuration: "
            f"{len(expected) - common:,} missing, {len(found) - common:,} unexpected"
        )
    elif all(found[tensor].shape == spec.shape for tensor, spec in expected.items()):
        summary = f"{name}: the right tensors, but not in the precision of a Spectra-AASIST3 checkpoint"
    else:
        summary = (
            f"{name}: the right tensors, but not of the sizes that the configuration says; is its config.json there?"
        )
    raise CheckpointError(summary, problems)


# A layer of the encoder, as transformers and as fairseq name it.
_ENCODER_LAYER = re.compile(r"(.*\.)?encoder\.layers\.\d+\.(attention|self_attn)\..+")
_BACK_END = re.compile(r"(.*\.)?(aasist|bridge)\..+")


def _is_encoder(names: Iterable[str]) -> bool:
    """Whether a file's tensors are those of a speech encoder, and none are of the detector's back-end."""
    names = list(names)
    return any(map(_ENCODER_LAYER.fullmatch, names)) and not any(map(_BACK_END.fullmatch, names))


def _fold(g: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The weight (out, in / groups, taps) of a convolution weight-normed over its first two axes, in float64."""
    v = v.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # a tap of zeros gives NaN, which is reported by its leaf
        return g.astype(np.float64) * v / np.sqrt(np.sum(v * v, axis=(0, 1), keepdims=True))


def _unfold(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and direction of a folded weight. The magnitude of a weight that `_fold` made is the one it had."""
    wide = weight.astype(np.float64)
    g = np.sqrt(np.sum(wide * wide, axis=(0, 1), keepdims=True))
    # A power of two brings a direction to unit scale without rounding; a small one would lose digits in float32. A tap
    # of zeros has no direction of its own, and zeros would divide by zero in PyTorch.
    v = np.where(g > 0, np.ldexp(wide, -np.frexp(g)[1]), 1.0)
    return g.astype(np.float32), v.astype(np.float32)


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
