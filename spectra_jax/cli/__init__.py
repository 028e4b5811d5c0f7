"""The command line: `spectra-jax score | convert | info`. Thin: each command reads its words and calls the library."""

from __future__ import annotations

import traceback

import typer

from spectra_jax.cli import options
from spectra_jax.cli.convert import convert
from spectra_jax.cli.info import info
from spectra_jax.cli.score import score
from spectra_jax.hub import HubError

app = typer.Typer(
    name="spectra-jax",
    help="Is this voice a person or a machine? The Spectra-AASIST3 detector in JAX.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(score)
app.command()(convert)
app.command()(info)


def main() -> None:
    """Run the command line.

    Exit status: 0 all done; 1 some trials skipped; 2 wrong usage, or a model or input that cannot be used; 130
    interrupted.
    """
    try:
        app()
    except (ValueError, OSError, HubError) as error:
        # The library's own errors are written for the person who reads them.
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was written", 130)
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}\nThis should not happen; --debug shows where it did.", 2)


def _fail(message: str, status: int) -> None:
    if options.debug:
        traceback.print_exc()
    options.stderr.print(f"spectra-jax: {message}", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(status)
