"""Reads of a file's bytes, and files made of spans of another."""

from __future__ import annotations

import io

from spectra_jax.audio.source import Source
from tests.audio.recordings import sound


def test_a_small_file_is_read_once() -> None:
    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    file = Counted(sound("WAV"))
    source = Source(file)
    for start in (0, source.size - 4, 8, source.size):
        assert source.read(start, 16) == file.getvalue()[start : start + 16]
    assert file.reads == 1
