"""`spectra-jax convert`: PyTorch weights to the native format, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from spectra_jax.cli.options import Debug
from spectra_jax.cli.output import print_message


def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Any model that `score --model` takes.")],
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DST", help="A new directory; with --to torch also a new file *.safetensors; for ONNX a new file."
        ),
    ],
    to: Annotated[
        Literal["native", "torch", "onnx"] | None,
        typer.Option(
            help="The format to write: `native`, unless DST ends in .onnx. `torch` loads strictly in the reference."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Convert a checkpoint to another format.

    Strictly: every tensor used once, every weight set once, every value finite.
    """
    from spectra_jax.convert import convert as run
    from spectra_jax.convert import format_of
    from spectra_jax.files.outputs import require_writable
    from spectra_jax.model.config import SpectraConfig

    if not destination.exists():
        require_writable(destination)
    to = to or format_of(destination)
    checkpoint = run(source, destination, to)
    print_message(f"{source} -> {destination} ({to})")
    if to == "torch" and destination.is_file() and checkpoint.config != SpectraConfig():
        print_message(
            "Its architecture is not the published one, and such a file does not state it. Put the config.json that "
            f"`spectra-jax convert {source} DIRECTORY --to torch` writes beside it."
        )
    if prefix := checkpoint.provenance.get("names_without"):
        print_message(
            f"All names in {source} begin with {prefix}, which PyTorch's data parallelism adds; it was left out."
        )
    if dtype := checkpoint.provenance.get("source_dtype"):
        print_message(f"The weights of {source} are {dtype}; the same values are written as float32.")
