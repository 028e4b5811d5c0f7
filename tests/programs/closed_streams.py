"""Write a file with closed standard streams: `python closed_streams.py FILE <&- >&- 2>&-`."""

import os
import sys
from pathlib import Path

from spectra_jax.cli import streams

streams.open_missing()
with Path(sys.argv[1]).open("wb") as file:
    # As a C library does.
    os.write(2, b"a message")
    file.write(b"scores")
print("lost", file=sys.stderr)
