"""The commands together, and how each run of them ends: errors, interrupts and exit statuses."""

from __future__ import annotations

import errno
import io
import signal
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

import typer

from spectra_jax.cli import options, signals, streams
from spectra_jax.cli.calibrate import calibrate
from spectra_jax.cli.collector import fewer_collections
from spectra_jax.cli.compare import compare
from spectra_jax.cli.convert import convert
from spectra_jax.cli.evaluate import evaluate
from spectra_jax.cli.info import info
from spectra_jax.cli.inspect import inspect
from spectra_jax.cli.invocation import Invocation
from spectra_jax.cli.output import print_message
from spectra_jax.cli.report import report
from spectra_jax.cli.reproduce import reproduce
from spectra_jax.cli.score import score
from spectra_jax.cli.serve import serve
from spectra_jax.cli.train import train
from spectra_jax.cli.verify import verify
from spectra_jax.errors import HubError, StoppedError

app = typer.Typer(
    name="spectra-jax",
    help="Is this speech bona fide or spoofed? The Spectra-AASIST3 detector in JAX.",
    no_args_is_help=True,
    # Help in plain text: its tables are too narrow for 80 columns.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_COMMANDS = (score, inspect, serve, evaluate, compare, verify, reproduce, report, calibrate, train, convert, info)
for command in _COMMANDS:
    app.command()(command)


@app.callback()
def _options_of_every_command(version: options.Version = False) -> None:
    """The options that stand before a command. Their callbacks act on them."""


_INTERRUPTED = 130
# Errors of writing to a stream. Errors of files state the file's name.
_STREAM_ERRORS = (errno.EBADF, errno.EFBIG, errno.EIO, errno.ENOSPC)


def main() -> None:
    """Run the command line.

    Exit status: 0 all done; 1 some trials skipped; 2 wrong usage, or a model or input that cannot be used; 130
    interrupted (Ctrl-C), 143 by SIGTERM, 129 by SIGHUP; 141 where nobody reads the output.
    """
    streams.open_missing()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the output's encoding lacks must not lose the scores.
        sys.stdout.reconfigure(errors="backslashreplace")
    invocation = Invocation()
    output_error: OSError | None = None
    try:
        with fewer_collections(), signals.interrupts_raised_again(), signals.raised_as_interrupts(invocation):
            try:
                app(obj=invocation)
            finally:
                output_error = streams.flush(sys.stdout)
                streams.flush(sys.stderr)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns Ctrl-C into this status.
        if isinstance(stop, KeyboardInterrupt) or stop.code == _INTERRUPTED:
            _end_interrupted(invocation)
        # Typer and rich turn a closed pipe into the status 1.
        if isinstance(stop.__context__, BrokenPipeError):
            output_error = stop.__context__
        if output_error is None:
            raise
    except Exception as error:
        output_error = output_error or _stream_error(error)
        if output_error is None:
            _fail(_message(error), error if invocation.debug else None)
    if output_error is not None:
        _end_unwritten(output_error, invocation)


def _end_interrupted(invocation: Invocation) -> NoReturn:
    """End the command after Ctrl-C or another signal."""
    by_user = invocation.signal == signal.SIGINT
    how = "interrupted" if by_user else f"ended by {invocation.signal.name}"
    _print_last_message(f"{how}; {invocation.on_interrupt}")
    streams.flush(sys.stdout)
    signals.exit_at_once(128 + invocation.signal)


def _end_unwritten(error: OSError, invocation: Invocation) -> NoReturn:
    """End the command where its output could not be written."""
    if isinstance(error, BrokenPipeError):
        # The status of any command whose output is no longer read.
        raise SystemExit(128 + signal.SIGPIPE)
    _fail(f"standard output: {error.strerror}", error if invocation.debug else None)


def _stream_error(error: Exception) -> OSError | None:
    """The error, if it is one of writing to a standard stream."""
    if isinstance(error, OSError) and error.filename is None and error.errno in _STREAM_ERRORS:
        return error
    return None


def _message(error: Exception) -> str:
    """What the user reads of an error."""
    # Without Python's `[Errno 2]` in errors of the operating system.
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    # The library's own messages are written for the user.
    if isinstance(error, ValueError | OSError | HubError | StoppedError):
        return str(error)
    return f"{type(error).__name__}: {error}\nThis should not happen; --debug shows where it did."


def _fail(message: str, shown: Exception | None) -> NoReturn:
    """Print the traceback of an error that is to be shown, then the message, and end with the status 2."""
    if shown is not None:
        traceback.print_exception(shown)
    _print_last_message(message)
    raise SystemExit(2)


def _print_last_message(message: str) -> None:
    # Where nobody reads it, the exit status has to do.
    with suppress(SystemExit):
        print_message(f"spectra-jax: {message}")
    streams.flush(sys.stderr)
