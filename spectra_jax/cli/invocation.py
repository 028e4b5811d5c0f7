"""The state of one run of the command line, which decides how it ends."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import typer


@dataclass
class Invocation:
    """One run of the command line. Commands reach it through their context.

    Attributes:
      debug: print the traceback of an error.
      on_interrupt: what an interrupted command leaves behind, as its last message states it.
      signal: by which the command was interrupted.
    """

    debug: bool = False
    on_interrupt: str = "no output was written"
    signal: signal.Signals = signal.SIGINT

    @classmethod
    def of(cls, context: typer.Context) -> Invocation:
        """The invocation that a command belongs to."""
        return context.ensure_object(cls)
