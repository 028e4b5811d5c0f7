"""Random access to the bytes of a recording, and a file object made of spans of it for the decoders."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_READ_BYTES = 1 << 18

ByteOrder = Literal["big", "little"]


class ByteRange(NamedTuple):
    """The bytes of a file from `start` up to, but not including, `end`."""

    start: int
    end: int


Span = bytes | ByteRange
"""Bytes that replace some of the file's, or a range of the file."""


def append_range(spans: list[Span], start: int, end: int) -> None:
    """Add a range of the file. It is merged with the last one where it continues it: a file has very many frames."""
    last = spans[-1] if spans else None
    if isinstance(last, ByteRange) and last.end == start:
        spans[-1] = ByteRange(last.start, end)
    else:
        spans.append(ByteRange(start, end))


class Source:
    """An open file, or bytes in memory.

    Attributes:
      size: in bytes.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self._buffer_start, self._buffer = 0, b""

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on; fewer where the file ends first.

        A short read fills a buffer of a quarter of a megabyte, since a parser that walks from frame to frame soon reads
        the bytes that follow.
        """
        offset = start - self._buffer_start
        # A buffer that reaches the end of the file holds all that a longer read would: a small file is read once.
        end = min(start + length, self.size)
        if offset < 0 or end > self._buffer_start + len(self._buffer):
            self._file.seek(start)
            self._buffer_start, self._buffer, offset = start, self._file.read(max(length, _READ_BYTES)), 0
        return self._buffer[offset : offset + length]

    def find(self, pattern: re.Pattern[bytes], start: int) -> int:
        """The position of the first match, of at most 16 bytes, from `start` on; -1 if there is none."""
        for position in range(start, self.size, _READ_BYTES):
            if match := pattern.search(self.read(position, _READ_BYTES + 16)):
                return position + match.start()
        return -1

    def integer(self, start: int, length: int, order: ByteOrder = "big") -> int:
        """The unsigned integer of `length` bytes at `start`; of fewer where the file ends first."""
        return int.from_bytes(self.read(start, length), order)


class SplicedFile(io.RawIOBase):
    """A read-only file that consists of spans of a source, one after another. No copy of them is made."""

    def __init__(self, source: Source, spans: Sequence[Span]) -> None:
        super().__init__()
        self._source = source
        self._spans = [span for span in spans if _length(span) > 0]
        self._starts = [0, *accumulate(map(_length, self._spans))]
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
            span, offset = self._spans[index], self._position - self._starts[index]
            wanted = min(len(target) - done, self._starts[index + 1] - self._position)
            if isinstance(span, bytes):
                content = span[offset : offset + wanted]
            else:
                content = self._source.read(span.start + offset, wanted)
            if not content:
                break
            target[done : done + len(content)] = content
            done += len(content)
            self._position += len(content)
        return done


def _length(span: Span) -> int:
    return len(span) if isinstance(span, bytes) else span.end - span.start
