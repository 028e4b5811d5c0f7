"""Directories that nobody but the user and root can change. Cached executables are run, so theirs must be such."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# As many as Linux follows.
_MAX_LINKS = 40
_ADVICE = "set XDG_CACHE_HOME to a directory that only you can write"


def make_private_directory(directory: Path) -> None:
    """Create a directory, and those above it that are missing, with access for the user alone."""
    if not directory.is_dir():
        make_private_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def require_private(directory: Path) -> None:
    """Raise unless only the user and root can put files into a directory or replace it.

    Goes from the root down, through symbolic links as well, so that nobody can change what was checked already.

    Raises:
      PermissionError: another user can; names the directory or link, and what to do.
      OSError: the directory does not exist, or its permissions cannot be read.
    """
    if not hasattr(os, "geteuid"):
        return
    names = [*reversed(directory.absolute().parts)]
    path, num_links = Path(names.pop()), 0
    while names:
        name = names.pop()
        above, path = path, path.parent if name == ".." else path / name
        status = path.lstat()
        if status.st_uid not in (0, os.geteuid()):
            raise PermissionError(
                f"{path}: another user owns it and could replace the executables in {directory}; {_ADVICE}"
            )
        if stat.S_ISLNK(status.st_mode):
            num_links += 1
            if num_links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(directory))
            target = path.readlink()
            names += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            path = Path(target.anchor) if target.is_absolute() else above
        elif not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"{path} is not a directory")
        elif names and _others_may_replace_files(status):
            raise PermissionError(
                f"{path}: others may write there and could replace the executables in {directory}; `chmod go-w` it, "
                f"or {_ADVICE}"
            )
    _require_own(directory, path.stat())


def _require_own(directory: Path, status: os.stat_result) -> None:
    """Raise unless the user owns the cache's directory and is the only one who may write it."""
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{directory}: another user owns it, and it holds executables")
    if status.st_mode & 0o022:
        raise PermissionError(f"{directory}: others may write there, and it holds executables; `chmod go-w` it")


def _others_may_replace_files(directory: os.stat_result) -> bool:
    """Whether users besides its owner can replace the files of a directory.

    In a sticky one, such as `/tmp`, they can only add files. A group that holds nobody but the user is no danger: many
    systems give each user such a group, and make new directories writable by it.
    """
    if directory.st_mode & stat.S_ISVTX:
        return False
    return bool(directory.st_mode & 0o002 or (directory.st_mode & 0o020 and not _is_users_own_group(directory.st_gid)))


def _is_users_own_group(gid: int) -> bool:
    """Whether a group is the user's own, with no other member."""
    import grp  # Windows has neither
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    alone = user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    return alone and user.pw_uid != 0
