"""PyTorch checkpoints in safetensors form: names, dtypes and weight norm, for the detector and for encoders alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Float32, Float64

from spectra_jax.convert.entries import Entry
from spectra_jax.errors import CheckpointError
from spectra_jax.files.tensor_file import ShardedTensorFile, TensorFile, TensorSpec, header_problems

PARALLEL_PREFIX = "module."
"""The prefix that torch.nn.DataParallel and DistributedDataParallel add to all names."""
# The dtypes of floating-point tensors whose values float32 represents exactly.
_FLOAT_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class PyTorchFile:
    """A file of tensors under the names of PyTorch."""

    tensors: TensorFile | ShardedTensorFile
    names: Mapping[str, str]
    """The name in the file of each tensor, by its canonical name."""

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Dtype and shape of each tensor, by its canonical name."""
        return {canonical: self.tensors.specs[own] for canonical, own in self.names.items()}

    def read(self, tensor: str) -> np.ndarray:
        """A tensor, by its canonical name."""
        return self.tensors.read(self.names[tensor])

    def read_float32(self, tensor: str) -> Float32[np.ndarray, ...]:
        """A floating-point tensor as float32, by its canonical name."""
        return self.read(tensor).astype(np.float32, copy=False)

    def read_normed(self, pair: tuple[str, str]) -> Float64[np.ndarray, "outputs inputs_per_group size"]:
        """The kernel that a weight norm's magnitude and direction give, by their canonical names."""
        magnitude, direction = map(self.read_float32, pair)
        return apply_weight_norm(magnitude, direction)

    def reader(self, entry: Entry, pair: tuple[str, str]) -> Callable[[], np.ndarray]:
        """A function that reads the weight of an entry; one that the file lacks is the kernel of a weight norm."""
        if entry.source not in self.names:
            return lambda: self.read_normed(pair).transpose(entry.axes)
        if self.tensors.specs[self.names[entry.source]].dtype == "I64":
            return lambda: self.read(entry.source).astype(np.int32)
        return lambda: self.read_float32(entry.source).transpose(entry.axes)


def pytorch_tensors(
    weights: Iterable[tuple[str, np.ndarray]],
    entries: Iterable[Entry],
    specs: Mapping[str, TensorSpec],
    pair: tuple[str, str],
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a file from Flax weights in any order; a kernel that `specs` lacks becomes a weight norm."""
    by_target = {entry.target: entry for entry in entries}
    for target, weight in weights:
        entry = by_target[target]
        array = weight.transpose(entry.inverse_axes)
        if entry.source not in specs:
            yield from zip(pair, split_weight_norm(array), strict=True)
        else:
            yield entry.source, array.astype(np.int64 if specs[entry.source].dtype == "I64" else np.float32)


def stored_tensors(
    entries: Sequence[Entry], weights: Mapping[str, jax.ShapeDtypeStruct], positional: str, pair: tuple[str, str]
) -> dict[str, TensorSpec]:
    """Dtype and shape of every tensor in the file of a network, by its canonical name.

    Args:
      entries: of the name table.
      weights: of the network, by their Flax paths.
      positional: the positional convolution, whose kernel is stored as a weight norm's magnitude and direction.
      pair: the names of these two.
    """
    targets = [entry.target for entry in entries]
    # Checks the table against the network. It is checked against the file when one is read.
    missing = sorted(set(weights) - set(targets))
    if missing or len(targets) != len(set(targets)):
        raise AssertionError(f"the name table does not set each weight once: {missing or targets}")
    specs = {entry.source: _spec(entry, weights[entry.target]) for entry in entries}
    out, in_per_group, size = specs.pop(f"{positional}.weight").shape
    return specs | {
        pair[0]: TensorSpec("F32", (1, 1, size)),
        pair[1]: TensorSpec("F32", (out, in_per_group, size)),
    }


def _spec(entry: Entry, weight: jax.ShapeDtypeStruct) -> TensorSpec:
    dtype = "I64" if np.issubdtype(weight.dtype, np.integer) else "F32"
    return TensorSpec(dtype, tuple(weight.shape[axis] for axis in entry.inverse_axes))


def in_file_order(entries: Iterable[Entry], file: PyTorchFile, pair: tuple[str, str]) -> list[Entry]:
    """Entries in the order of their tensors in a file; the one that is stored as a pair at its direction."""
    position = {tensor: index for index, tensor in enumerate(file.names)}
    return sorted(entries, key=lambda entry: position.get(entry.source, position[pair[1]]))


def parallel_prefix(names: Iterable[str]) -> str:
    """`module.` if all names begin with it, otherwise nothing."""
    return PARALLEL_PREFIX if all(name.startswith(PARALLEL_PREFIX) for name in names) else ""


def canonical_names(
    names: Iterable[str], prefix: str, weight_norm: tuple[str, str], weight_norm_old: tuple[str, str]
) -> dict[str, str]:
    """The name of each tensor in a file, by its canonical name: without the prefix, with the newer weight norm."""
    bare = {name.removeprefix(prefix): name for name in names}
    # The older names are renamed only if the file has none of the newer, so that two tensors never get one name.
    renamed = {} if set(weight_norm) & set(bare) else dict(zip(weight_norm_old, weight_norm, strict=True))
    return {renamed.get(name, name): own for name, own in bare.items()}


def float_dtypes(specs: Iterable[TensorSpec]) -> str:
    """The dtypes of a file's floating-point tensors, such as `float32` or `bfloat16 and float32`."""
    return " and ".join(sorted({_FLOAT_DTYPES[spec.dtype] for spec in specs if spec.dtype in _FLOAT_DTYPES}))


def check_tensors(name: str, found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec], model: str) -> None:
    """Check that a file has the expected tensors. Those expected in float32 may also be float16 or bfloat16.

    Args:
      name: the name of the file in messages.
      found: the tensors of the file, by their canonical names.
      expected: the tensors that the model needs.
      model: what the file should be a checkpoint of, such as `Spectra-AASIST3`.

    Raises:
      CheckpointError: they differ; all differences are reported together.
    """
    accepted = {
        tensor: TensorSpec(found[tensor].dtype, spec.shape)
        if spec.dtype == "F32" and tensor in found and found[tensor].dtype in _FLOAT_DTYPES
        else spec
        for tensor, spec in expected.items()
    }
    problems = header_problems(found, accepted, "tensor")
    if not problems:
        return
    common = len(set(expected) & set(found))
    if common < len(expected) / 2:
        summary = f"{name}: a checkpoint of another model: it has {common:,} of the {len(expected):,} tensors"
    elif common < len(expected) or common < len(found):
        summary = (
            f"{name}: not the tensors of a {model} checkpoint of this configuration: "
            f"{len(expected) - common:,} missing, {len(found) - common:,} unexpected"
        )
    elif all(found[tensor].shape == spec.shape for tensor, spec in expected.items()):
        summary = f"{name}: the right tensors, but not in the precision of a {model} checkpoint"
    else:
        summary = f"{name}: the right tensors, but not of the sizes in the configuration; is its config.json beside it?"
    raise CheckpointError(summary, problems)


def apply_weight_norm(
    g: Float[np.ndarray, "1 1 size"], v: Float[np.ndarray, "outputs inputs_per_group size"]
) -> Float64[np.ndarray, "outputs inputs_per_group size"]:
    """The kernel with magnitude `g` and direction `v`, which is normalized over the first two axes, in float64."""
    v = v.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # zeros give NaN, which `Checkpoint` reports
        return g.astype(np.float64) * v / np.sqrt(np.sum(v * v, axis=(0, 1), keepdims=True))


def split_weight_norm(
    kernel: Float[np.ndarray, "outputs inputs_per_group size"],
) -> tuple[Float32[np.ndarray, "1 1 size"], Float32[np.ndarray, "outputs inputs_per_group size"]]:
    """Magnitude and direction of a kernel. The magnitude is the one from which `apply_weight_norm` computed it."""
    wide = kernel.astype(np.float64)
    g = np.sqrt(np.sum(wide * wide, axis=(0, 1), keepdims=True))
    # A power of two brings a direction to unit scale without rounding; a small one would lose digits in float32.
    # Zeros have no direction: with ones, PyTorch does not divide by zero.
    v = np.where(g > 0, np.ldexp(wide, -np.frexp(g)[1]), 1.0)
    return g.astype(np.float32), v.astype(np.float32)
