"""Conversion between PyTorch checkpoints and the native format, strict in both directions, and to ONNX."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.convert.entries import Entry
from spectra_jax.convert.pytorch import read_pytorch, write_pytorch
from spectra_jax.convert.table import TABLE, TABLES, expand

__all__ = ["TABLE", "TABLES", "Entry", "Format", "convert", "expand", "format_of", "read_pytorch", "write_pytorch"]

Format = Literal["native", "torch", "onnx"]

# Endings of the model files of other programs.
_FILE_ENDINGS = re.compile(
    r"\.(bin|ckpt|engine|gguf|h5|hdf5|joblib|json|keras|mlmodel|msgpack|np[yz]|onnx|pb|pickle|pkl|pth?|safetensors|tar|"
    r"tflite|torchscript|zip)"
)


def convert(source: str | Path, destination: str | Path, to: Format | None = None) -> Checkpoint:
    """Convert a model in any format to the native format, to that of PyTorch, which the reference loads strictly, or
    to ONNX, which cannot be converted back.

    One tensor is in memory at a time, but for ONNX all are. The destination appears when it is complete, or not at all.

    Args:
      source: as for `spectra_jax.load`.
      destination: a directory that does not exist yet or is empty; for `torch` also a new file `*.safetensors`; for
        `onnx` a new file `*.onnx`. Missing parent directories are created.
      to: the format to write; by default `onnx` for a name that ends in .onnx, else `native`.

    Returns:
      The converted checkpoint. Its provenance states how it was read.

    Raises:
      FileExistsError: the destination exists.
      FileNotFoundError: no such source.
      ValueError: no such format, or the destination has the name of a file of another one.
      InputError: the extra `onnx` is not installed.
      CheckpointError, ConfigError, TensorFileError, HubError, OSError: see `spectra_jax.open_checkpoint`.
    """
    # Imported here, since these modules import the readers of this package.
    from spectra_jax.checkpoints.native import write_native
    from spectra_jax.checkpoints.resolve import open_checkpoint
    from spectra_jax.files.atomic import atomic_directory, require_free
    from spectra_jax.hub import CONFIG, WEIGHTS

    destination = Path(destination)
    to = to or format_of(destination)
    if to not in get_args(Format):
        raise ValueError(f"to = {to!r} is not a format; formats are native, torch and onnx")
    as_file = to == "torch" and destination.suffix == ".safetensors"
    require_free(destination)
    if to == "onnx":
        _require_onnx(destination)
    elif not as_file:
        _require_directory_name(destination, to)
    checkpoint = open_checkpoint(source)
    if to == "onnx":
        _write_onnx(checkpoint, destination)
    elif as_file:
        destination.parent.mkdir(parents=True, exist_ok=True)
        write_pytorch(checkpoint, destination)
    elif to == "torch":
        with atomic_directory(destination) as partial:
            (partial / CONFIG).write_text(checkpoint.config.to_json(), encoding="utf-8")
            write_pytorch(checkpoint, partial / WEIGHTS)
    else:
        write_native(checkpoint, destination, _provenance(checkpoint))
    return checkpoint


def format_of(destination: Path) -> Format:
    """The format that is written to a destination where none is stated."""
    return "onnx" if destination.suffix.lower() == ".onnx" else "native"


def _provenance(checkpoint: Checkpoint) -> dict[str, str]:
    """Where a converted file comes from, for its metadata."""
    import spectra_jax

    provenance = {**checkpoint.provenance, "converter_version": spectra_jax.__version__}
    provenance.setdefault("source_sha256", checkpoint.sha256())
    return provenance


def _require_onnx(destination: Path) -> None:
    """Check that the destination is named as an ONNX file, and that one can be written."""
    from spectra_jax.exporting.onnx import require_onnx_extra

    if destination.suffix.lower() != ".onnx":
        raise ValueError(f"{destination}: the onnx format is one file; choose a name that ends in .onnx")
    require_onnx_extra()


def _write_onnx(checkpoint: Checkpoint, destination: Path) -> None:
    from spectra_jax.checkpoints.load import load_model
    from spectra_jax.exporting.onnx import write_onnx

    write_onnx(load_model(checkpoint), destination, metadata=_provenance(checkpoint))


def _require_directory_name(destination: Path, to: str) -> None:
    """Check that a new directory does not have the name of a model file, which the user probably wants instead."""
    ending = destination.suffix.lower()
    if _FILE_ENDINGS.fullmatch(ending):
        raise ValueError(
            f"{destination}: {ending} is the ending of a file, and the {to} format is a directory of config.json and "
            "model.safetensors. Name a directory, or write one file: for PyTorch with --to torch and a name that ends "
            "in .safetensors, for ONNX with --to onnx and one that ends in .onnx; no other format can be written"
        )
