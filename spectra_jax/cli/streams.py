"""Standard streams that are closed, full, or not read by anybody."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def open_missing() -> None:
    """Open a file for each standard stream that was closed, as `>&-` does.

    Otherwise the next file that is opened, such as a score file, gets the stream's number, and whatever a C library
    prints to the stream is written into it.
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


def flush(stream: TextIO) -> OSError | None:
    """Flush a stream. Where that fails, drop what is left in it and return the error."""
    try:
        stream.flush()
    except OSError as error:
        # Python would try again as it ends, and print a traceback.
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)
        return error
    return None
