"""What commands print: messages on standard error, tables and JSON on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from spectra_jax.messages import printable
from spectra_jax.reporting.console import SafeConsole

if TYPE_CHECKING:
    from spectra_jax.data.sources import Trials

stderr = SafeConsole(stderr=True)


def print_message(message: str) -> None:
    """Print a message for the user on standard error: no markup, no wrapping, control characters escaped.

    It may have several lines. Names in it go through `printable` before, so that none looks like a line of its own.
    """
    # Where standard error cannot be written, as on a full disk, the message is lost and the work continues.
    with suppress(OSError):
        stderr.print(message, markup=False, highlight=False, soft_wrap=True)


def stdout() -> SafeConsole:
    """Where tables are printed. In a file or a pipe, every row is one line, however long."""
    return SafeConsole(highlight=False, width=None if sys.stdout.isatty() else 1_000_000)


def print_json(value: Any) -> None:
    """Print figures as JSON, which has neither NaN nor infinity: they become null."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    # Control characters that JSON does not escape, such as U+009B in an id, would reach the terminal.
    safe = printable(text, keep="\n") == text
    typer.echo(text if safe else json.dumps(_finite(value), indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_notes(trials: Trials) -> None:
    """Print what is not scored of the inputs, and which ids are paths."""
    for line in trials.warnings():
        print_message(line)


def print_pooled_subsets(name: str, subsets: Mapping[str, int]) -> None:
    """Print that figures pool several subsets, where they do."""
    if len(subsets) > 1:
        counts = ", ".join(f"{printable(subset) or 'unnamed'} ({number:,})" for subset, number in subsets.items())
        print_message(
            f"{printable(name)}: pools the trials of {len(subsets)} subsets, {counts}; --subset NAME takes one of them"
        )


def check_outputs(*paths: Path | None, extension: str | None = None) -> None:
    """Check before any work that files can be written, and print which of them will be replaced.

    Args:
      paths: of the files; None for those that were not asked for.
      extension: which their names must have, such as `.csv`.

    Raises:
      InputError: a file cannot be written, or has another extension.
    """
    from spectra_jax.errors import InputError
    from spectra_jax.files.outputs import require_writable

    for path in paths:
        if path is not None:
            if extension is not None and path.suffix.lower() != extension:
                raise InputError(f"{path}: this file is written as {extension}; its name must end in {extension}")
            require_writable(path)
            if path.exists():
                print_message(f"{printable(path)}: exists and will be replaced")
