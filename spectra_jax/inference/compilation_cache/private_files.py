"""Files that the user owns and that nobody else may write."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from spectra_jax.files.untrusted import open_regular, read_bounded


def read_private_file(path: Path, limit: int, *, readable_by_others: bool = True) -> bytes:
    """The content of a regular file that the user owns and that nobody else may write.

    Args:
      path: no symbolic link is followed.
      limit: bytes that it may have.
      readable_by_others: whether others may be able to read it.

    Raises:
      OSError: another kind of file, another user's, or one that others may write.
      ValueError: it has more than `limit` bytes.
    """
    with open_regular(path, follow_symlinks=False) as file:
        if hasattr(os, "geteuid"):
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid():
                raise PermissionError(f"{path.name} is another user's file")
            if status.st_mode & (0o022 if readable_by_others else 0o077):
                raise PermissionError(f"{path.name} is open to others")
        return read_bounded(file, limit)


def write_private_file(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file that only the user can read, and that appears complete or not at all.

    Does not wait for the disk: a signature detects what a loss of power leaves, and a disk may take a second, for which
    the first score would wait.

    Raises:
      FileExistsError: without `replace`, where the file exists.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
        if replace:
            partial.replace(path)
        else:
            try:
                path.hardlink_to(partial)
            except FileExistsError:
                raise
            except OSError:  # not every file system has hard links
                partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
