"""Files and directories that appear under their names when they are complete, or not at all."""

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

# The name of a file or directory until it is complete: hidden, and derived from its final name.
_PARTIAL = re.compile(r"\.(?P<name>.{1,50})\.[0-9a-f]{12}\.partial", re.DOTALL)


@contextmanager
def atomic_file(path: str | Path, *, on_disk: bool = True, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write that gets the name `path` (or that of the file it links to) once it is complete and on the disk.

    A file that has the name already is replaced then, and stays as it was if writing fails. Unfinished files of the
    same name, whose writers were killed, are removed first.

    Args:
      path: the final name.
      on_disk: wait for the disk. Otherwise a file that is complete now may not be after a loss of power.
      replace: whether to replace a file that has the name already.

    Raises:
      FileExistsError: `replace` is false and there is such a file. Exactly one of several concurrent writers succeeds.
      IsADirectoryError, OSError: `path` is a directory, or a device or pipe, which a file must not replace.
    """
    final = Path(path).resolve()
    if final.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a directory; give the name of a file", str(path))
    # Who may write to `/dev` could otherwise lose a device.
    if final.exists() and not final.is_file():
        raise OSError(errno.EINVAL, "is a device or a pipe, which is not replaced; give the name of a file", str(path))
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
    except OSError as error:
        _name_file(error, path)
        raise


def _name_file(error: OSError, path: str | Path) -> None:
    """Name the file in an error of the system that names none, such as that of a full disk."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """A directory to fill that gets the name `path` once everything in it is on the disk; missing parents are created.

    Raises:
      FileExistsError, NotADirectoryError, PermissionError: see `require_free`.
    """
    require_free(path)
    final = Path(path).resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep(final.parent, final.name)
    try:
        with _partial(final, Path.mkdir) as partial:
            yield partial
            for file in partial.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            partial.replace(final)
    except OSError as error:
        _name_file(error, path)
        raise


@contextmanager
def _partial(final: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or directory beside `final`, locked while this process lives, and removed unless it was renamed."""
    # On the same file system, so that renaming is atomic. Not tempfile, whose files only their owner may read: these
    # get the permissions of any new file. A name has at most 255 bytes, and a character up to four.
    partial, lock = final, None
    try:
        while lock is None:
            partial = final.parent / f".{final.name[:50]}.{secrets.token_hex(6)}.partial"
            make(partial)
            lock = _lock(partial, wait=True)
            # A concurrent `sweep` may have removed it before it was locked. On a file system without locks, `sweep`
            # removes nothing.
            if lock is None and partial.exists():
                break
        yield partial
    finally:
        if partial != final:
            _remove(partial)
        if lock is not None:
            os.close(lock)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Lock a file or directory until the descriptor is closed, also by a kill; None if that is impossible."""
    if fcntl is None:
        return None
    try:
        # NFS can only lock files that are open for writing.
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        # It was not removed or renamed before it was locked.
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
    """Give a file its final name unless another file has it."""
    try:
        os.link(partial, final)
    except OSError as error:
        # Some file systems do not support links.
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if final.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from None
        partial.replace(final)


def is_partial(name: str) -> bool:
    """Whether this is the name of an unfinished file or directory of this module."""
    return _PARTIAL.fullmatch(name) is not None


def sweep(directory: str | Path, name: str | None = None) -> None:
    """Remove the unfinished files and directories in `directory` whose writers no longer run, in any process.

    Args:
      directory: to search; it need not exist.
      name: remove only those with this final name.
    """
    try:
        with os.scandir(directory) as entries:
            matches = [(entry, match) for entry in entries if (match := _PARTIAL.fullmatch(entry.name))]
    except OSError:
        return
    for entry, match in matches:
        if name is not None and match["name"] != name[:50]:
            continue
        unfinished = Path(entry.path)
        if (lock := _lock(unfinished, wait=False)) is not None:
            try:
                _remove(unfinished)
            except OSError:
                # It may belong to another user, and does no harm.
                pass
            finally:
                os.close(lock)


def require_free(path: str | Path) -> None:
    """Raise unless `path` can be created with its missing parents, or is an empty directory.

    Raises:
      FileExistsError: it exists.
      NotADirectoryError: one of its parents is a file.
      PermissionError: it cannot be created in its parent.
    """
    path = Path(path)
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists already; choose another name or remove it first")
    above = next(parent for parent in path.resolve().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise NotADirectoryError(f"{path} cannot be created, because {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be created, because you may not write to {above}")
