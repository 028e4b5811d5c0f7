"""Conversion between PyTorch checkpoints of Spectra-AASIST3 and the native format, strict in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from spectra_jax.convert.pytorch import read_pytorch, write_pytorch
from spectra_jax.convert.table import TABLE, Entry, expand

__all__ = ["TABLE", "Entry", "convert", "expand", "read_pytorch", "write_pytorch"]


def convert(source: str | Path, destination: str | Path, to: Literal["native", "torch"] = "native") -> None:
    """Convert a model of any form to the native format, or to the one that the PyTorch reference loads strictly.

    One tensor is in memory at a time. The destination appears when it is whole, or not at all.

    Args:
      source: whatever `spectra_jax.load` takes.
      destination: a directory that does not exist yet or is empty; for `torch` also a new file `*.safetensors`.
      to: the format to write.

    Raises:
      FileExistsError: the destination exists.
      FileNotFoundError: no such source, or the destination's parent does not exist.
      ValueError: no such format.
      CheckpointError, ConfigError, TensorFileError, HubError, OSError: see `spectra_jax.pretrained.open_checkpoint`.
    """
    # Here, for these import the readers of this package.
    import spectra_jax
    from spectra_jax.atomic import atomic_directory, require_free
    from spectra_jax.checkpoint import write_native
    from spectra_jax.hub import CONFIG, WEIGHTS
    from spectra_jax.pretrained import open_checkpoint

    if to not in ("native", "torch"):
        raise ValueError(f"to = {to!r}, but a format is native or torch")
    destination = Path(destination)
    as_file = to == "torch" and destination.suffix == ".safetensors"
    require_free(destination)
    checkpoint = open_checkpoint(source)
    if as_file:
        write_pytorch(checkpoint, destination)
    elif to == "torch":
        with atomic_directory(destination) as partial:
            (partial / CONFIG).write_text(checkpoint.config.to_json(), encoding="utf-8")
            write_pytorch(checkpoint, partial / WEIGHTS)
    else:
        provenance = {**checkpoint.provenance, "converter_version": spectra_jax.__version__}
        provenance.setdefault("source_sha256", checkpoint.sha256())
        write_native(checkpoint, destination, provenance)
