"""Standard streams that are closed, full, or read by nobody."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def open_missing() -> None:
    """Give each standard stream that was closed (as `>&-` does) a file of its own.

    Otherwise the next file that is opened, such as a score file, gets the stream's number, and with it whatever a C
    library prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
            continue
        except OSError:
            pass
        # Writing to a closed standard output has to fail; messages may be lost.
        opened = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def lost(stream: TextIO) -> OSError | None:
    """Why what was printed cannot all reach its reader; None where it has. What is left of it is dropped."""
    try:
        stream.flush()
    except OSError as error:
        # Python would try again as it ends, and print a traceback.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)
        return error
    return None
