"""What every command shares: options, and where messages go."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spectra_jax import __version__
from spectra_jax.hub import PUBLISHED
from spectra_jax.messages import printable
from spectra_jax.reporting.console import SafeConsole

if TYPE_CHECKING:
    from spectra_jax.data.labels import Labels
    from spectra_jax.data.score_files import Scores
    from spectra_jax.data.sources import Trials

stderr = SafeConsole(stderr=True)
debug = False
NOTHING_WRITTEN = "no output was written"
# What there is when Ctrl-C ends the command.
on_interrupt = NOTHING_WRITTEN
# By which that happened.
stopped_by = signal.SIGINT


def say(message: str) -> None:
    """A message for the user: no markup, no wrapping, control characters escaped.

    It may have several lines. Names in it go through `printable` before, so that none looks like a line of its own.
    """
    # On a full disk, say, it is lost, and the work continues.
    with suppress(OSError):
        stderr.print(message, markup=False, highlight=False, soft_wrap=True)


def say_left_out(trials: Trials) -> bool:
    """Say what is not scored, and which ids are not as expected; whether an input could not be read."""
    for line in trials.notes():
        say(line)
    return bool(trials.left_out.unreadable)


def stdout() -> SafeConsole:
    """Where tables go. In a file or a pipe, every row is one line, however long."""
    return SafeConsole(highlight=False, width=None if sys.stdout.isatty() else 1_000_000)


def print_json(value: Any) -> None:
    """Print figures as JSON, which has neither NaN nor infinity: null stands for both."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    # Control characters that JSON lets stand, such as U+009B in an id, would reach the terminal.
    safe = printable(text, keep="\n") == text
    typer.echo(text if safe else json.dumps(_finite(value), indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def will_write(*paths: Path | None, ending: str | None = None) -> None:
    """See, before any work, that files can be written, and say which of them will be replaced.

    Args:
      paths: of the files.
      ending: that their names must have, such as `.csv`, if there is one.

    Raises:
      InputError: one cannot be written, or has another ending.
    """
    from spectra_jax.errors import InputError
    from spectra_jax.files.outputs import require_writable

    for path in paths:
        if path is not None:
            if ending is not None and path.suffix.lower() != ending:
                raise InputError(f"{path}: this file is written as {ending}; its name must end in {ending}")
            require_writable(path)
            if path.exists():
                say(f"{printable(path)}: there already, and will be replaced")


def read_tables(
    scores: Sequence[Path], labels: Path | None, match: MatchName, subset: str | None, *, whole_names: bool = False
) -> tuple[list[Scores], Labels | None]:
    """Score files and labels as the options ask for them.

    Args:
      scores: score files.
      labels: a label file; None for what the score files bring themselves.
      match: how ids are compared.
      subset: the subset to keep, of the labels or else of the first score file.
      whole_names: call the systems by their whole paths, not by their file names.
    """
    from spectra_jax.data.labels import labels_of, read_labels, take_subset
    from spectra_jax.data.score_files import read_scores

    known = None if labels is None else read_labels(labels, match=match)
    systems = [read_scores(path, str(path) if whole_names else None, match=match) for path in scores]
    if subset is not None:
        systems, known = take_subset(systems, known or labels_of(systems[0]), subset)
    return systems, known


def say_pooled(name: str, subsets: Mapping[str, int]) -> None:
    """Say that figures are of several subsets together, where they are."""
    if len(subsets) > 1:
        counts = ", ".join(f"{printable(subset) or 'unnamed'} ({number:,})" for subset, number in subsets.items())
        say(f"{printable(name)}: pools the trials of {len(subsets)} subsets, {counts}; --subset NAME takes one of them")


def _set_debug(value: bool) -> None:
    global debug
    debug = value


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"spectra-jax {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
]
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
        help="How the ids of two files are compared: as they are, without folder and extension, or as whole paths.",
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
    float,
    typer.Option(
        metavar="G",
        help="A rank gap below this is a near tie, where rounding decides the score: 2e-5 for float32.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON, for programs.")]
