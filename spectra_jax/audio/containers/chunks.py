"""What WAV, AIFF, CAF and similar formats share: chunks, lengths that are unknown, and what follows the samples.

The lengths in a header are compared with the file's before anything is decoded. A writer that wrote to a pipe could not
know the length; the header is then replaced by one that states the actual length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from spectra_jax.audio.containers.tags import TRAILING_BYTES, tag_length
from spectra_jax.audio.source import ByteOrder, ByteRange, Source, Span
from spectra_jax.errors import AudioError

# What writers leave in a field of 32 bits for a length that they do not know. A recording that was cut short states its
# full length, which is none of these.
_PLACEHOLDERS = (
    0,  # Python's wave module, GStreamer 1.0 and servers that never return to their header
    0xFFFF_FFFF,  # FFmpeg and most speech servers
    0x7FFF_FFFF,  # old versions of SoX, arecord, and most programs that count in signed integers
    0x8000_0000,  # old versions of arecord
    0x7FFF_F000,  # SoX, eSpeak, MPlayer
    0x7FFF_0000,  # GStreamer's wavenc
    0x7F00_0008,  # SoX in AIFF: the samples and the eight bytes before them
    0x7F00_0000,
    2_000_000_000,
    1_000_000_000,
)
# Others leave the largest number of 32 bits, signed or not, rounded down to a block, a page or a buffer.
_HIGHEST_BITS = (0xFFFF, 0x7FFF)
RIFF_MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_RECORDING_MAGICS = (*RIFF_MAGICS, b"FORM", b"fLaC", b".snd", b"caff")
_WAV_START = re.compile(rb"(?s)(RIFF|RIFX|RF64|BW64).{4}WAVE")
# Of chunks behind the samples: Adobe writes "_PMX", AIFF has "(c) ".
_CHUNK_NAME = re.compile(rb"[A-Za-z0-9_() ]{4}")
# A longer chunk behind the samples, of which the end is missing, is taken for samples.
_LARGEST_CUT_CHUNK = 1 << 24


@dataclass(frozen=True)
class Chunk:
    """A chunk of a file.

    Attributes:
      name: four bytes; of W64 the 16 bytes of a GUID.
      start: the position of its content.
      size: of its content in bytes, as its header states it; the file may end earlier.
    """

    name: bytes
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


def iter_chunks(
    source: Source, start: int, order: ByteOrder, *, name_bytes: int = 4, size_bytes: int = 4
) -> Iterator[Chunk]:
    """The chunks from `start` on, up to the first bytes that are not a chunk."""
    header_bytes = name_bytes + size_bytes
    # Padding is counted from the start of the recording, which a tag of an odd length may precede.
    first = start
    while start + header_bytes <= source.size:
        name = source.read(start, name_bytes)
        size = source.integer(start + name_bytes, size_bytes, order)
        if (name_bytes == 4 and not name.isascii()) or not name[:4].strip(b"\0"):
            return
        # W64 includes the header of a chunk in its size, and pads to eight bytes.
        content = size - header_bytes if name_bytes == 16 else size
        if content < 0:
            return
        yield Chunk(name, start + header_bytes, content)
        end = start + header_bytes + content
        start = end + ((first - end) % 8 if name_bytes == 16 else (end - first) % 2 if size_bytes == 4 else 0)


def chunks_fill_the_rest(source: Source, start: int, order: ByteOrder) -> bool:
    """Whether chunks alone follow, up to the end of the file: a recording of length 0 is then really empty."""
    end = start
    for chunk in iter_chunks(source, start, order):
        end = chunk.end
    return start < end <= source.size + 1


def is_placeholder(size: int, file_size: int, offset: int, block_bytes: int, available: int) -> bool:
    """Whether a length in a header is one that writers leave which do not know it.

    Args:
      size: of the samples in bytes, as the header states it.
      file_size: as the header states it: some writers put the placeholder there, and subtract.
      offset: of the samples in the file.
      block_bytes: of one sample of all channels: some writers round down to a multiple of it.
      available: bytes of samples in the file. Recorders begin another file at 2 or 4 GB: a file of nearly that size may
        have been cut.
    """
    if size in _PLACEHOLDERS or (size >> 16 in _HIGHEST_BITS and available < size // 8):
        return True
    for placeholder in _PLACEHOLDERS[1:]:
        if size in (placeholder - placeholder % max(block_bytes, 1), placeholder - offset, placeholder - offset + 8):
            return True
        if file_size in (placeholder, placeholder - 8) and size == file_size + 8 - offset:
            return True
    return False


def require_samples(size: int, available: int) -> None:
    """Raise AudioError if the file has fewer bytes of samples than its header states."""
    if size > available:
        raise AudioError(f"cut short: {max(available, 0):,} of the {size:,} bytes of samples that its header states")


def require_complete_sample(available: int, block_bytes: int) -> None:
    """Raise AudioError if the file ends within a sample (of all channels). `block_bytes` is 0 where it is unknown."""
    if block_bytes and available % block_bytes:
        raise AudioError(f"cut short: its last sample has {available % block_bytes} of its {block_bytes} bytes")


def check_unknown_length(source: Source, start: int, available: int, block_bytes: int) -> None:
    """Check samples that reach to the end of the file, since the writer did not know their number.

    Raises:
      AudioError: the last sample is incomplete, or another recording follows.
    """
    require_complete_sample(available, block_bytes)
    if (second := source.find(_WAV_START, start)) >= 0:
        raise _several_files(second)


def check_trailer(source: Source, end: int, size: int) -> None:
    """Check that only tags and padding follow the `size` bytes of samples that end at `end`.

    Raises:
      AudioError: another recording follows, or more bytes than padding has: they may be more of this recording.
    """
    position = end
    while tag := tag_length(source.read(position, 16)):
        position += tag
    rest = source.read(position, TRAILING_BYTES + 1)
    unpadded = rest.lstrip(b"\0")
    if unpadded.startswith(_RECORDING_MAGICS):
        raise _several_files(position + len(rest) - len(unpadded))
    if len(rest) > TRAILING_BYTES and rest.strip(b"\0 \r\n"):
        raise AudioError(
            f"its header states {size:,} bytes of samples, but {source.size - position:,} bytes follow them that are "
            "neither a tag nor padding; the header is wrong or the file is damaged: convert it to another format"
        )


def check_after_samples(source: Source, start: int, samples: Chunk, order: ByteOrder, stated_end: int) -> None:
    """Check what follows the samples: chunks, up to where the header states the file's end, then tags or padding.

    Args:
      source: the file.
      start: of the recording.
      samples: the chunk that holds them.
      order: of the bytes of a chunk's length.
      stated_end: the position at which the file ends by its header.

    Raises:
      AudioError: more samples, or bytes that may be samples, follow.
    """
    position = _next_chunk(source, start, samples.end, order)
    while _CHUNK_NAME.fullmatch(name := source.read(position, 4)) and position + 8 <= source.size:
        if name in (*RIFF_MAGICS, b"FORM"):
            break
        if name == b"data":
            raise AudioError(
                "a WAV with several data chunks; decoders read only the first one: convert it to another format"
            )
        end = position + 8 + source.integer(position + 4, 4, order)
        if end > source.size:
            if end - position - 8 > _LARGEST_CUT_CHUNK:
                break
            return  # The file was cut, but behind the samples.
        position = _next_chunk(source, start, end, order)
    if position + 8 < stated_end <= source.size + 1 and source.read(position, stated_end - position).strip(b"\0"):
        raise AudioError(
            f"its header states {samples.size:,} bytes of samples, and {stated_end - position:,} after them that are "
            "not a chunk; the header is wrong or the file is damaged: convert it to another format"
        )
    check_trailer(source, position, samples.size)


def _next_chunk(source: Source, start: int, end: int, order: ByteOrder) -> int:
    """The position of the chunk behind one that ends at `end`: some writers omit the byte of padding."""
    padding = (end - start) & 1
    unpadded = padding and _CHUNK_NAME.fullmatch(source.read(end, 4))
    if unpadded and end + 8 + source.integer(end + 4, 4, order) <= source.size:
        return end
    return end + padding


def _several_files(position: int) -> AudioError:
    return AudioError(f"several files in one: another recording begins at byte {position:,}; cut the file there")


@dataclass(frozen=True)
class Field:
    """An integer in a header, with the value that it is to have."""

    position: int
    num_bytes: int
    value: int


def replace_fields(source: Source, start: int, fields: list[Field], order: ByteOrder) -> list[Span]:
    """The file from `start` on with other values in these fields. A value that does not fit is the largest one."""
    spans: list[Span] = []
    for field in sorted(fields, key=lambda field: field.position):
        spans.append(ByteRange(start, field.position))
        spans.append(min(field.value, 256**field.num_bytes - 1).to_bytes(field.num_bytes, order))
        start = field.position + field.num_bytes
    return [*spans, ByteRange(start, source.size)]
