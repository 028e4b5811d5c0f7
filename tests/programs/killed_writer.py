"""Start writing a file or directory, and be killed before it is complete."""

import os
import signal
import sys

from spectra_jax.files.atomic import atomic_directory, atomic_file

path, kind = sys.argv[1:]
if kind == "directory":
    with atomic_directory(path) as directory:
        (directory / "a").write_bytes(b"unfinished")
        os.kill(os.getpid(), signal.SIGKILL)
else:
    with atomic_file(path) as file:
        file.write(b"unfinished")
        os.kill(os.getpid(), signal.SIGKILL)
