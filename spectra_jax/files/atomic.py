"""Files and directories that appear under their names when they are whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# What is written until it is whole: hidden, and named after what it becomes.
_PARTIAL = re.compile(r"\.(?P<name>.{1,50})\.[0-9a-f]{12}\.partial", re.DOTALL)


@contextmanager
def atomic_file(path: str | Path, *, on_disk: bool = True, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` (or that of the file it links to) once it is whole and on the disk.

    Whatever had the name before is replaced then, and left as it was if the writing fails. What writers of the same
    name left unfinished when they were killed is removed first.

    Args:
      path: to be.
      on_disk: wait for the disk. Without that, a file may be whole now and not after a loss of power.
      replace: whether a file of that name is replaced.

    Raises:
      FileExistsError: there is one, and `replace` is false. Of several writers at once, one does not get this error.
    """
    final = Path(path).resolve()
    sweep(final.parent, final.name)
    try:
        with _partial(final, lambda new: new.touch(exist_ok=False)) as partial:
            with partial.open("r+b") as file:
                yield file
                file.flush()
                if on_disk:
                    os.fsync(file.fileno())
            if replace:
                partial.replace(final)
            else:
                _rename_new(partial, final)
    except BaseException as error:
        # A full disk does not say which file did not fit.
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """A directory to fill that takes the name `path` once everything in it is on the disk. Missing parents are made.

    Raises:
      FileExistsError, NotADirectoryError, PermissionError: see `require_free`.
    """
    require_free(path)
    final = Path(path).resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep(final.parent, final.name)
    with _partial(final, Path.mkdir) as partial:
        yield partial
        for file in partial.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        partial.replace(final)


@contextmanager
def _partial(final: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or directory beside `final`, locked while this process lives, and removed unless it was renamed."""
    # On the same file system, so that taking the final name is one step. Not tempfile, whose files only their owner
    # may read: these get the permissions that any new file gets. A name has at most 255 bytes, a character up to four.
    partial, lock = final, None
    try:
        while lock is None:
            partial = final.parent / f".{final.name[:50]}.{secrets.token_hex(6)}.partial"
            make(partial)
            lock = _lock(partial, wait=True)
            # A sweep may have removed it before it was locked. Some file systems know no locks, and no sweeps then.
            if lock is None and partial.exists():
                break
        yield partial
    finally:
        if partial != final:
            _remove(partial)
        if lock is not None:
            os.close(lock)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Lock a file or directory until the descriptor is closed, by a kill too; None where that cannot be."""
    if fcntl is None:
        return None
    try:
        # NFS locks only what is open for writing.
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        # Not removed, or renamed, before it was locked.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _rename_new(partial: Path, final: Path) -> None:
    """Give a file its final name unless there is a file of that name."""
    try:
        os.link(partial, final)
    except OSError as error:
        # Some file systems have no links.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if final.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from None
        partial.replace(final)


def is_partial(name: str) -> bool:
    """Whether a file of this name is one that is, or was, being written by this module."""
    return _PARTIAL.fullmatch(name) is not None


def sweep(directory: str | Path, name: str | None = None) -> None:
    """Remove the unfinished files and directories in `directory` whose writers have died.

    Writers that live, in any process, are not disturbed.

    Args:
      directory: to look in; it need not exist.
      name: what they were to become; anything otherwise.
    """
    try:
        with os.scandir(directory) as entries:
            matches = [(entry, match) for entry in entries if (match := _PARTIAL.fullmatch(entry.name))]
    except OSError:
        return
    for entry, match in matches:
        if name is not None and match["name"] != name[:50]:
            continue
        left = Path(entry.path)
        if (lock := _lock(left, wait=False)) is not None:
            try:
                _remove(left)
            except OSError:
                # Of another user, perhaps. It does no harm.
                pass
            finally:
                os.close(lock)


def require_free(path: str | Path) -> None:
    """See that `path` does not exist, or is an empty directory, and that it and its missing parents can be made.

    Raises:
      FileExistsError: it is there.
      NotADirectoryError: what should be a directory above it is a file.
      PermissionError: nothing can be made there.
    """
    path = Path(path)
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists already; choose another name or remove it first")
    above = next(parent for parent in path.resolve().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise NotADirectoryError(f"{path} cannot be made, because {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be made, because {above} is not yours to write")
