"""The bytes of a recording: read at any position, and handed to a decoder in pieces of the file."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_READ_BYTES = 1 << 18

# Bytes that stand in for those of the file, or the start and the end of a piece of it.
Piece = bytes | tuple[int, int]


def append(pieces: list[Piece], start: int, end: int) -> None:
    """Add a piece of the file, to the one before it where it follows that one: a file has very many frames."""
    last = pieces[-1] if pieces else None
    if isinstance(last, tuple) and last[1] == start:
        pieces[-1] = (last[0], end)
    else:
        pieces.append((start, end))


class Source:
    """A file that is open, or bytes in memory.

    Attributes:
      size: in bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self._start, self._bytes = 0, b""

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on; fewer where the file ends first.

        A read of a few bytes takes a quarter of a megabyte with it, since those who look for frames ask again soon.
        """
        offset = start - self._start
        # What ends with the file holds all that there is: a small file is read once.
        end = min(start + length, self.size)
        if offset < 0 or end > self._start + len(self._bytes):
            self._file.seek(start)
            self._start, self._bytes, offset = start, self._file.read(max(length, _READ_BYTES)), 0
        return self._bytes[offset : offset + length]

    def find(self, pattern: re.Pattern[bytes], start: int) -> int:
        """Where, from `start` on, at most 16 bytes match; -1 if none do."""
        for position in range(start, self.size, _READ_BYTES):
            if found := pattern.search(self.read(position, _READ_BYTES + 16)):
                return position + found.start()
        return -1

    def integer(self, start: int, length: int, order: str = "big") -> int:
        """An unsigned integer, of the bytes that there are."""
        return int.from_bytes(self.read(start, length), "big" if order == "big" else "little")


class View(io.RawIOBase):
    """Pieces of a source, one after another, as a file of their own. Decoders read it without a copy being made."""

    def __init__(self, source: Source, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._source = source
        self._pieces = [piece for piece in pieces if (len(piece) if isinstance(piece, bytes) else piece[1] > piece[0])]
        lengths = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in self._pieces]
        self._starts = [0, *accumulate(lengths)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._starts[-1])[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        done = 0
        while done < len(target) and self._position < self._starts[-1]:
            index = bisect_right(self._starts, self._position) - 1
            piece, offset = self._pieces[index], self._position - self._starts[index]
            wanted = min(len(target) - done, self._starts[index + 1] - self._position)
            if isinstance(piece, bytes):
                found = piece[offset : offset + wanted]
            else:
                found = self._source.read(piece[0] + offset, wanted)
            if not found:
                break
            target[done : done + len(found)] = found
            done += len(found)
            self._position += len(found)
        return done
