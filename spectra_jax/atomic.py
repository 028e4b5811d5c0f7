"""Files and directories that appear under their names when they are whole, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def _beside(final: Path) -> Path:
    # On the same file system, so that taking the final name is one step. Not tempfile, whose files only their owner
    # may read: these get the permissions that any new file gets. A name has at most 255 bytes, a character up to four.
    return final.parent / f".{final.name[:50]}.{secrets.token_hex(6)}.partial"


@contextmanager
def atomic_file(path: str | Path, *, on_disk: bool = True) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` (or that of the file it links to) once it is whole and on the disk.

    Whatever had the name before is replaced then, and left as it was if the writing fails.

    Args:
      path: to be.
      on_disk: wait for the disk. Without that, a file may be whole now and not after a loss of power.
    """
    final = Path(path).resolve()
    partial = _beside(final)
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            if on_disk:
                os.fsync(file.fileno())
        partial.replace(final)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # A full disk does not say which file did not fit.
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """A directory to fill that takes the name `path` once everything in it is on the disk.

    Raises:
      FileExistsError: something not empty has the name already.
      FileNotFoundError: its parent does not exist.
    """
    require_free(path)
    final = Path(path).resolve()
    partial = _beside(final)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        partial.replace(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def require_free(path: str | Path) -> None:
    """See that `path` does not exist, or is an empty directory, and that it can come to be.

    Raises:
      FileExistsError: it is there.
      FileNotFoundError: its parent does not exist.
    """
    path = Path(path)
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such directory, so {path.name} cannot be written there")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists already; choose another name or remove it first")
