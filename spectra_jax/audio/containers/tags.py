"""Tags before, between and behind the frames of a recording: ID3, APE and Lyrics3."""

from __future__ import annotations

import re

from spectra_jax.audio.source import Source

# The most that may follow a recording without being a tag: a newline, padding, the rest of a disk page.
TRAILING_BYTES = 1024
_LYRICS_END = re.compile(rb"LYRICS(END|200)")
_LYRICS_BYTES = 65536


def tag_length(header: bytes) -> int:
    """The length in bytes of the ID3 or APE tag that begins with `header`; 0 if none does."""
    if header[:3] == b"ID3" and len(header) >= 10 and max(header[6:10]) < 128:
        size = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
        return 10 + size + (10 if header[5] & 0x10 else 0)
    if header[:3] == b"TAG":
        return 128
    if header[:8] == b"APETAGEX":
        # The size excludes the tag's header, and a tag begins with a header unless these bytes are its footer.
        return 32 + (int.from_bytes(header[12:16], "little") if len(header) >= 16 else 0)
    return 0


def lyrics3_length(source: Source, position: int) -> int:
    """The length in bytes of the Lyrics3 tag at `position`; 0 if there is none, or none that ends."""
    text = source.read(position, _LYRICS_BYTES)
    end = _LYRICS_END.search(text) if text.startswith(b"LYRICSBEGIN") else None
    return end.end() if end else 0


def end_without_tags(source: Source) -> int:
    """The position at which a file ends if the tags (ID3v1, APE) at its end are left out."""
    end = source.size
    if end >= 128 and source.read(end - 128, 3) == b"TAG":
        end -= 128
    footer = source.read(end - 32, 32) if end >= 32 else b""
    if footer[:8] == b"APETAGEX":
        # The size includes the footer and excludes the header, which is present if a flag is set.
        has_header = footer[23] & 0x80
        end -= int.from_bytes(footer[12:16], "little") + (32 if has_header else 0)
    return max(end, 0)
