"""Files that others may have written: regular ones only, of bounded size, as strict JSON, and safe to print."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

# No configuration or index of shards comes near this.
LARGEST_JSON = 16 * 2**20


def open_regular(path: str | Path, *, follow_symlinks: bool = True) -> BinaryIO:
    """Open a file to be read, unless opening or reading it could block or never end, as with a FIFO or a device.

    Raises:
      OSError: it cannot be opened, or is not a regular file.
    """
    # Without O_NONBLOCK, opening a FIFO waits for its writer. Windows has none of these flags.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_CLOEXEC", 0) | (0 if follow_symlinks else getattr(os, "O_NOFOLLOW", 0))
    if not follow_symlinks and Path(path).is_symlink():
        raise OSError(f"{path} is a symbolic link")
    if Path(path).is_dir():  # Windows says "permission denied" otherwise
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
    """The whole content of a file.

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
      ValueError: more than `limit` bytes, not UTF-8, or not JSON in the sense of `parse_json`.
    """
    with open_regular(path) as file:
        return parse_json(read_bounded(file, limit))


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text, where a name stands once in an object, and numbers are finite.

    Raises:
      ValueError: it is not such a text, or nested too deeply for Python's parser. Says what is wrong, and no more.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("objects or lists nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{json.dumps(twice)[:80]} stands twice in one object")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large a number")
    return value
