"""What every command shares: options, and where messages go."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from spectra_jax.hub import PUBLISHED

stderr = Console(stderr=True)
debug = False
NOTHING_WRITTEN = "no output was written"
# What there is when Ctrl-C ends the command.
on_interrupt = NOTHING_WRITTEN
# By which that happened.
stopped_by = signal.SIGINT


def say(message: str) -> None:
    """A line for the person on the terminal, as it is: no markup, no wrapping."""
    # On a full disk, say, it is lost, and the work goes on.
    with suppress(OSError):
        stderr.print(message, markup=False, highlight=False, soft_wrap=True)


def stdout() -> Console:
    """Where tables go. In a file or a pipe, every row is one line, however long."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 1_000_000)


def _set_debug(value: bool) -> None:
    global debug
    debug = value


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_set_debug)]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="M",
        help="Native directory, PyTorch .safetensors file or directory, Hub id (org/name or org/name@revision), "
        f"or `demo`. Default: {PUBLISHED}.",
        show_default=False,
    ),
]


class PrecisionOption(StrEnum):
    """The names of `spectra_jax.Precision`, spelt out so that --help needs no JAX."""

    float32 = "float32"
    tf32 = "tf32"
    bfloat16 = "bfloat16"
    float64 = "float64"


def count_or(word: str) -> Callable[[str], str]:
    """What checks an option that is a whole number of at least 1, or `word`."""

    def check(given: str) -> str:
        if given != word and not (given.isascii() and given.isdecimal() and int(given) >= 1):
            raise typer.BadParameter(f"{given!r} is neither a whole number of at least 1 nor `{word}`.")
        return given

    return check


LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="L",
        help="Manifest with a column label, the Arena's labels.parquet, or an ASVspoof protocol. Otherwise the score "
        "file's own column `label`.",
    ),
]
Common = Annotated[
    bool, typer.Option("--common", help="Take the trials that are in both files, rather than refuse when some are not.")
]
Resamples = Annotated[int, typer.Option(metavar="N", min=0, help="Of the bootstrap for 95 % intervals; 0 for none.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of everything drawn at random.")]
Tolerance = Annotated[float, typer.Option(metavar="T", help="The largest |difference| that is taken for rounding.")]
GapBound = Annotated[
    float,
    typer.Option(
        metavar="G",
        help="A rank gap below this is a near tie, where rounding decides the score: 2e-5 for float32.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: the figures as JSON on standard output.")]
