"""Signals that end a command, and Ctrl-C where Python would lose it."""

from __future__ import annotations

import os
import signal
import sys
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer, current_thread, main_thread
from typing import TYPE_CHECKING, NoReturn

from spectra_jax.cli.invocation import Invocation

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_ENDING = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


@contextmanager
def raised_as_interrupts(invocation: Invocation) -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGTERM and SIGHUP, so that a command cleans up as after Ctrl-C."""

    def interrupt(number: int, _: object) -> None:
        invocation.signal = signal.Signals(number)
        raise KeyboardInterrupt

    # Python handles signals in its main thread only. A signal that is ignored, as under nohup, stays ignored.
    replaced = {
        kind: signal.signal(kind, interrupt)
        for kind in _ENDING
        if current_thread() is main_thread() and signal.getsignal(kind) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for kind, before in replaced.items():
            signal.signal(kind, before)


@contextmanager
def interrupts_raised_again() -> Iterator[None]:
    """Raise KeyboardInterrupt again where Python dropped it.

    Python drops an exception that is raised inside a callback of its garbage collector. JAX has such a callback, and
    the collector runs often while JAX traces the network: there, about one interrupt in five would be lost.
    """
    before = sys.unraisablehook

    def hook(unraisable: UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # A moment later: raised inside this hook it would be dropped again.
            Timer(0.05, interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def exit_at_once(status: int) -> NoReturn:
    """End this process without waiting for its threads: Python would wait until JAX has compiled the network."""
    os._exit(status)
