"""Files that others may have written: read only if they are regular, of bounded size and strict JSON."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from spectra_jax.errors import InputError

LARGEST_JSON = 16 * 2**20
"""In bytes. A configuration or an index of shards is much smaller."""


def require_plain_file(path: str | Path, name: str | None = None) -> None:
    """Check that `path` is a file that can be read more than once, without opening it: a pipe could block for ever.

    Args:
      path: of the file.
      name: what messages call it; `path` otherwise.

    Raises:
      InputError: it does not exist, or is a folder, a pipe or a device.
    """
    name = name or str(path)
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (both raise ValueError for a NUL in the name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{name}: cannot be read: {reason}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{name}: a folder, where a file is expected")
    if not stat.S_ISREG(mode):
        raise InputError(f"{name}: not a plain file but a pipe or a device; save its content to a file first")


def open_regular(path: str | Path, *, follow_symlinks: bool = True) -> BinaryIO:
    """Open a file for reading, unless opening or reading it could block or never end, as with a FIFO or a device.

    Raises:
      OSError: it cannot be opened, or is not a regular file.
    """
    # Without O_NONBLOCK, opening a FIFO waits for its writer. Windows has none of these flags.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_CLOEXEC", 0) | (0 if follow_symlinks else getattr(os, "O_NOFOLLOW", 0))
    if not follow_symlinks and Path(path).is_symlink():
        raise OSError(f"{path} is a symbolic link")
    if Path(path).is_dir():  # Windows reports "permission denied" otherwise
        raise IsADirectoryError(f"{path} is a directory, not a file")
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file, but a device, pipe or socket; name the file itself")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(file: BinaryIO, limit: int) -> bytes:
    """The complete content of a file.

    Raises:
      ValueError: it has more than `limit` bytes.
    """
    content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"more than {limit:,} bytes")
    return content


def read_json(path: str | Path, limit: int = LARGEST_JSON) -> Any:
    """The value in a JSON file.

    Raises:
      OSError: the file cannot be read, or is not a regular file.
      ValueError: more than `limit` bytes, not UTF-8, or not valid JSON for `parse_json`.
    """
    with open_regular(path) as file:
        return parse_json(read_bounded(file, limit))


def parse_json(text: bytes | str, *, finite: bool = True) -> Any:
    """The value of a JSON text. No object may have two values of one name.

    Args:
      text: in UTF-8.
      finite: refuse `NaN`, `Infinity` and numbers beyond float64's range, which Python writes and reads.

    Raises:
      ValueError: not such a text, or nested too deeply for Python's parser. States what is wrong, but no file.
    """
    numbers: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite} if finite else {}
    try:
        return json.loads(text, object_pairs_hook=_unique, **numbers)
    except RecursionError:
        raise ValueError("objects or lists nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{json.dumps(repeated)[:80]} occurs twice in one object")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
