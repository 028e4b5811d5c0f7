"""Options that several commands have, and the tables that they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spectra_jax import __version__
from spectra_jax.cli.invocation import Invocation
from spectra_jax.hub import PUBLISHED

if TYPE_CHECKING:
    from spectra_jax.data.labels import Labels
    from spectra_jax.data.score_files import Scores


def _set_debug(context: typer.Context, value: bool) -> None:
    Invocation.of(context).debug = value


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"spectra-jax {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
]
# Its callback acts on it, so commands ignore their argument.
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
    float16 = "float16"
    int8 = "int8"
    float64 = "float64"


def count_or(word: str) -> Callable[[str], str]:
    """A callback for an option that is a whole number of at least 1, or `word`."""

    def check(given: str) -> str:
        if given != word and not (given.isascii() and given.isdecimal() and int(given) >= 1):
            raise typer.BadParameter(f"{given!r} is neither a whole number of at least 1 nor `{word}`.")
        return given

    return check


def number_or_auto(given: str) -> int | Literal["auto"]:
    """The value of `--batch-size`, which `count_or("auto")` has checked."""
    return "auto" if given == "auto" else int(given)


EncoderPrecision = Annotated[PrecisionOption, typer.Option(help="The type in which the encoder computes.")]
SpoofPrior = Annotated[float, typer.Option(metavar="P", help="Prior probability of a spoof, for P(spoof).")]
NoCompileCache = Annotated[
    bool, typer.Option("--no-compile-cache", help="Compile anew, without the cache in your cache folder.")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="L",
        help="A table with the columns label and utterance_id or path, the Arena's labels.parquet, or a list as "
        "ASVspoof and ADD publish them. Otherwise the score file's own column `label`.",
    ),
]
Subset = Annotated[
    str | None,
    typer.Option("--subset", metavar="NAME", help="Take this subset alone, by the column `subset`, such as eval."),
]
MatchName = Literal["exact", "stem", "path"]
MatchOption = Annotated[
    MatchName,
    typer.Option(
        "--match",
        help="How ids of two files are compared: exact (unchanged), stem (without folder and extension) or path "
        "(as complete paths).",
    ),
]
Common = Annotated[
    bool,
    typer.Option("--common", help="Take the trials that both files have, rather than refuse when some are missing."),
]
Resamples = Annotated[
    int, typer.Option(metavar="N", min=0, help="Resamples of the bootstrap for 95 % intervals; 0 for none.")
]
Seed = Annotated[
    int, typer.Option(metavar="N", min=0, help="Seed of the bootstrap and of everything else drawn at random.")
]
Tolerance = Annotated[float, typer.Option(metavar="T", help="The largest |difference| that counts as rounding.")]
GapBound = Annotated[
    float | None,
    typer.Option(
        metavar="G",
        help="A rank gap below this is a near tie, where rounding decides the score. Measured where that is possible, "
        "otherwise 2e-5, for float32.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON, for programs.")]


def read_tables(
    scores: Sequence[Path], labels: Path | None, match: MatchName, subset: str | None, *, full_paths: bool = False
) -> tuple[list[Scores], Labels | None]:
    """Read score files and labels as the options ask for them.

    Args:
      scores: score files.
      labels: a label file; None for the labels in the score files.
      match: how ids are compared.
      subset: the subset to keep, by the labels or else by the first score file.
      full_paths: name the systems by their paths, not by their file names.
    """
    from spectra_jax.data.labels import labels_of, read_labels, take_subset
    from spectra_jax.data.score_files import read_scores

    known = None if labels is None else read_labels(labels, match=match)
    systems = [read_scores(path, str(path) if full_paths else None, match=match) for path in scores]
    if subset is not None:
        systems, known = take_subset(systems, known or labels_of(systems[0]), subset)
    return systems, known
