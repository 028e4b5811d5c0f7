"""Output files that the user names: checked before the work, and written with the folders that they need."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from spectra_jax.errors import InputError
from spectra_jax.files.atomic import atomic_file


def require_writable(path: str | Path) -> None:
    """Check that `output_file` will be able to write `path`, which it may have to create folders for. Writes nothing.

    Raises:
      InputError: `path` exists and is not a plain file, or its folder cannot be written to.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: a folder of this name exists")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: exists and is not a plain file")
        parents = path.resolve().parents
        # Older versions of Python raise an error for circular links; newer ones leave them unresolved.
        if any(parent.is_symlink() for parent in parents):
            raise InputError(f"{path}: cannot be written: its folders are links in a circle")
        folder = next(parent for parent in parents if parent.exists())
        if not folder.is_dir():
            raise InputError(f"{path}: {folder} is not a folder")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except InputError:
        raise
    # RuntimeError: links in a circle. ValueError: a NUL in the name.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be written: {reason}") from error


@contextmanager
def output_file(path: str | Path) -> Iterator[BinaryIO]:
    """`atomic_file`, for which missing folders are created, and removed again if writing fails."""
    folder = Path(path).resolve().parent
    # The innermost first.
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            yield file
    except BaseException:
        for created in missing:
            # rmdir fails for a folder that was not created, or that is no longer empty.
            with suppress(OSError):
                created.rmdir()
        raise
