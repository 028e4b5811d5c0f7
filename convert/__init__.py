"""Conversion between PyTorch checkpoints of Spectra-AASIST3 and the native format, strict in both directions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.convert.entries import Entry
from spectra_jax.convert.pytorch import read_pytorch, write_pytorch
from spectra_jax.convert.table import TABLE, expand

__all__ = ["TABLE", "Entry", "convert", "expand", "read_pytorch", "write_pytorch"]

# Endings of the model files of other programs.
_FILE_ENDINGS = re.compile(
    r"\.(bin|ckpt|engine|gguf|h5|hdf5|joblib|json|keras|mlmodel|msgpack|np[yz]|onnx|pb|pickle|pkl|pth?|safetensors|tar|"
    r"tflite|torchscript|zip)"
)


def convert(source: str | Path, destination: str | Path, to: Literal["native", "torch"] = "native") -> Checkpoint:
    """Convert a model in any format to the native format, or to that of PyTorch, which the reference loads strictly.

    One tensor is in memory at a time. The destination appears when it is complete, or not at all.

    Args:
      source: as for `spectra_jax.load`.
      destination: a directory that does not exist yet or is empty; for `torch` also a new file `*.safetensors`. Missing
        parent directories are created.
      to: the format to write.

    Returns:
      The converted checkpoint. Its provenance states how it was read.

    Raises:
      FileExistsError: the destination exists.
      FileNotFoundError: no such source.
      ValueError: no such format, or the destination has the name of a file of another one.
      CheckpointError, ConfigError, TensorFileError, HubError, OSError: see `spectra_jax.open_checkpoint`.
    """
    # Imported here, since these modules import the readers of this package.
    import spectra_jax
    from spectra_jax.checkpoints.native import write_native
    from spectra_jax.checkpoints.resolve import open_checkpoint
    from spectra_jax.files.atomic import atomic_directory, require_free
    from spectra_jax.hub import CONFIG, WEIGHTS

    if to not in ("native", "torch"):
        raise ValueError(f"to = {to!r} is not a format; formats are native and torch")
    destination = Path(destination)
    as_file = to == "torch" and destination.suffix == ".safetensors"
    require_free(destination)
    if not as_file:
        _require_directory_name(destination, to)
    checkpoint = open_checkpoint(source)
    if as_file:
        destination.parent.mkdir(parents=True, exist_ok=True)
        write_pytorch(checkpoint, destination)
    elif to == "torch":
        with atomic_directory(destination) as partial:
            (partial / CONFIG).write_text(checkpoint.config.to_json(), encoding="utf-8")
            write_pytorch(checkpoint, partial / WEIGHTS)
    else:
        provenance = {**checkpoint.provenance, "converter_version": spectra_jax.__version__}
        provenance.setdefault("source_sha256", checkpoint.sha256())
        write_native(checkpoint, destination, provenance)
    return checkpoint


def _require_directory_name(destination: Path, to: str) -> None:
    """Check that a new directory does not have the name of a model file, which the user probably wants instead."""
    ending = destination.suffix.lower()
    if _FILE_ENDINGS.fullmatch(ending):
        raise ValueError(
            f"{destination}: {ending} is the ending of a file, and the {to} format is a directory of config.json and "
            "model.safetensors. Name a directory, or write one file for PyTorch with --to torch and a name that ends "
            "in .safetensors; no other format can be written"
        )
