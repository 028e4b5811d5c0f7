"""Files that the user names: checked before the work, and written with the folders that they need."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from spectra_jax.errors import InputError
from spectra_jax.files.atomic import atomic_file


def require_writable(path: str | Path) -> None:
    """See that `output_file` will be able to write `path`, and leave nothing behind. Missing folders are no obstacle.

    Raises:
      InputError: something there that is not a plain file, or a folder in which nothing can be written.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: a folder of this name is there already")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: there is something of this name that is not a plain file")
        parents = path.resolve().parents
        # Older versions of Python raise an error; a newer one leaves a link that leads to itself as it is.
        if any(parent.is_symlink() for parent in parents):
            raise InputError(f"{path}: cannot be written: its folders are links that lead in a circle")
        folder = next(parent for parent in parents if parent.exists())
        if not folder.is_dir():
            raise InputError(f"{path}: {folder} is not a folder")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except InputError:
        raise
    # RuntimeError: links that lead in a circle. ValueError: a NUL in the name.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be written: {reason}") from error


@contextmanager
def output_file(path: str | Path) -> Iterator[BinaryIO]:
    """`atomic_file`, which makes missing folders first, and removes them again if the writing fails."""
    folder = Path(path).resolve().parent
    # The innermost first.
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            yield file
    except BaseException:
        for made in missing:
            # Not one that was not made, or that something else was put into meanwhile.
            with suppress(OSError):
                made.rmdir()
        raise
