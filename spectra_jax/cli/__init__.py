"""The command line. Thin: each command reads its words and calls the library."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
import traceback
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer, current_thread, main_thread
from typing import TYPE_CHECKING, NoReturn

import typer

from spectra_jax.cli import options, streams
from spectra_jax.cli.calibrate import calibrate
from spectra_jax.cli.compare import compare
from spectra_jax.cli.convert import convert
from spectra_jax.cli.evaluate import evaluate
from spectra_jax.cli.info import info
from spectra_jax.cli.report import report
from spectra_jax.cli.score import score
from spectra_jax.cli.train import train
from spectra_jax.cli.verify import verify
from spectra_jax.errors import HubError, StoppedError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

app = typer.Typer(
    name="spectra-jax",
    help="Is this speech bona fide or spoofed? The Spectra-AASIST3 detector in JAX.",
    no_args_is_help=True,
    # Help in plain text: its tables are too narrow for 80 columns.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (score, evaluate, compare, verify, report, calibrate, train, convert, info):
    app.command()(command)


@app.callback()
def _every_command(version: options.Version = False) -> None:
    del version  # acted on as it is read


_INTERRUPTED = 130
# What goes wrong in writing. Errors of files that have names say them.
_NOT_WRITTEN = (errno.EBADF, errno.EFBIG, errno.EIO, errno.ENOSPC)
# So many new objects, instead of a thousand or two.
_COLLECT_AFTER = 50_000


def main() -> None:
    """Run the command line.

    Exit status: 0 all done; 1 some trials skipped; 2 wrong usage, or a model or input that cannot be used; 130
    interrupted (Ctrl-C), 143 by SIGTERM, 129 by SIGHUP; 141 where nobody reads the output.
    """
    streams.open_missing()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the output's encoding lacks must not lose the scores.
        sys.stdout.reconfigure(errors="backslashreplace")
    # A program may call this more than once.
    options.debug, options.on_interrupt, options.stopped_by = False, options.NOTHING_WRITTEN, signal.SIGINT
    lost: OSError | None = None
    try:
        with _interrupts_kept(), _signals_raised(), _seldom_collecting():
            try:
                app()
            finally:
                lost = streams.lost(sys.stdout)
                streams.lost(sys.stderr)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns Ctrl-C into this status.
        if isinstance(stop, KeyboardInterrupt) or stop.code == _INTERRUPTED:
            _stop()
        # Typer and rich turn a closed pipe into the status 1.
        if isinstance(stop.__context__, BrokenPipeError):
            lost = stop.__context__
        if lost is None:
            raise
    except (ValueError, OSError, HubError, StoppedError) as error:
        # The library's own errors are written for the person who reads them.
        if lost is None and isinstance(error, OSError) and error.filename is None and error.errno in _NOT_WRITTEN:
            lost = error
        if lost is None:
            _fail(_words(error), 2)
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}\nThis should not happen; --debug shows where it did.", 2)
    if isinstance(lost, BrokenPipeError):
        # As of any command whose output nobody reads any more.
        raise SystemExit(128 + signal.SIGPIPE)
    if lost is not None:
        _fail(f"standard output: {lost.strerror}", 2)


def _stop() -> NoReturn:
    """End the command after Ctrl-C or another signal."""
    how = "interrupted" if options.stopped_by == signal.SIGINT else f"ended by {options.stopped_by.name}"
    _say_last(f"{how}; {options.on_interrupt}")
    streams.lost(sys.stdout)
    # At once: JAX compiles on a thread of its own, which crashes when the interpreter is taken down around it.
    os._exit(128 + options.stopped_by)


@contextmanager
def _signals_raised() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the command as Ctrl-C does, so that it cleans up."""

    def stop(number: int, _: object) -> None:
        options.stopped_by = signal.Signals(number)
        raise KeyboardInterrupt

    # Python takes signals in its main thread only. One that is ignored, as under nohup, stays so.
    kinds = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    replaced = {
        kind: signal.signal(kind, stop)
        for kind in kinds
        if current_thread() is main_thread() and signal.getsignal(kind) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for kind, before in replaced.items():
            signal.signal(kind, before)


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Have Python collect its garbage less often, and not once more when it ends.

    Importing and tracing make a million objects that stay, and looking through them again and again takes a fifth of
    that time, and half a second at the end.
    """
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER if before[0] else 0)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Have Ctrl-C raised again where it was lost.

    Python drops an exception that is raised inside a callback of its garbage collector, and JAX, which has one there,
    keeps the collector busy while it traces the network.
    """
    before = sys.unraisablehook

    def hook(lost: UnraisableHookArgs) -> None:
        if lost.exc_type is KeyboardInterrupt:
            # A moment later, since in here it would be lost as well.
            Timer(0.05, interrupt_main).start()
        else:
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _words(error: Exception) -> str:
    """An error's message, without Python's `[Errno 2]` in those of the operating system."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _fail(message: str, status: int) -> NoReturn:
    if options.debug:
        traceback.print_exc()
    _say_last(message)
    raise SystemExit(status)


def _say_last(message: str) -> None:
    # Nobody may be there to read it, and then the exit status says what happened.
    with suppress(SystemExit):
        options.say(f"spectra-jax: {message}")
    streams.lost(sys.stderr)
