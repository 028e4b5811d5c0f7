"""AIFF and AIFF-C, and Amiga's IFF (8SVX, 16SV)."""

from __future__ import annotations

from dataclasses import dataclass

from spectra_jax.audio.containers.chunks import (
    Chunk,
    Field,
    check_after_samples,
    check_unknown_length,
    chunks_fill_the_rest,
    is_placeholder,
    iter_chunks,
    replace_fields,
    require_samples,
)
from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions, LibsndfileOptions
from spectra_jax.audio.source import ByteRange, Source
from spectra_jax.errors import AudioError

# Bits of a sample by the compression type of AIFF-C; 0 is the header's own number.
_BITS = {b"NONE": 0, b"twos": 0, b"sowt": 0, b"in24": 24, b"in32": 32, b"fl32": 32, b"FL32": 32, b"fl64": 64}
_BITS |= {b"FL64": 64, b"ulaw": 8, b"alaw": 8, b"ULAW": 8, b"ALAW": 8, b"raw ": 8}
# The SSND chunk begins with an offset and a block size, of four bytes each.
_SSND_HEADER_BYTES = 8


@dataclass(frozen=True)
class _Common:
    """The COMM chunk.

    Attributes:
      num_samples: per channel.
      num_samples_position: where in the file that is stated.
      block_bytes: of one sample of all channels; 0 of a codec in which a sample has no bytes of its own.
    """

    num_samples: int
    num_samples_position: int
    block_bytes: int


def parse_aiff(source: Source, start: int) -> EncodedStream:
    """Check an AIFF or AIFF-C.

    Raises:
      AudioError: cut short, several files in one, fewer samples than stated, or none.
    """
    file_size = source.integer(start + 4, 4)
    common: _Common | None = None
    for chunk in iter_chunks(source, start + 12, "big"):
        if chunk.name == b"COMM":
            common = _read_common(source, start, chunk)
        elif chunk.name == b"SSND":
            available = source.size - chunk.start
            if common and common.block_bytes and _has_unknown_length(source, start, chunk, file_size, common):
                num_bytes = available - _SSND_HEADER_BYTES
                check_unknown_length(source, chunk.start + _SSND_HEADER_BYTES, num_bytes, common.block_bytes)
                fields = [Field(start + 4, 4, source.size - start - 8), Field(chunk.start - 4, 4, available)]
                fields.append(Field(common.num_samples_position, 4, num_bytes // common.block_bytes))
                spans = replace_fields(source, start, fields, "big")
                return EncodedStream(spans, LibsndfileOptions(), FFmpegOptions("aiff"))
            require_samples(chunk.size, available)
            num_bytes = chunk.size - _SSND_HEADER_BYTES
            if common and common.block_bytes and common.num_samples * common.block_bytes > num_bytes:
                raise AudioError(
                    f"damaged: {num_bytes:,} bytes of samples, where its header states "
                    f"{common.num_samples:,} samples of {common.block_bytes} bytes"
                )
            check_after_samples(source, start, chunk, "big", start + 8 + file_size)
            return EncodedStream([ByteRange(start, source.size)], LibsndfileOptions(), FFmpegOptions("aiff"))
    raise AudioError("cut short or damaged: an AIFF without samples (no SSND chunk)")


def _read_common(source: Source, start: int, chunk: Chunk) -> _Common:
    channels, bits = source.integer(chunk.start, 2), source.integer(chunk.start + 6, 2)
    compression = source.read(chunk.start + 18, 4) if source.read(start + 8, 4) == b"AIFC" else b"NONE"
    width = (_BITS[compression] or bits) if compression in _BITS else 0
    return _Common(source.integer(chunk.start + 2, 4), chunk.start + 2, channels * -(-width // 8))


def _has_unknown_length(source: Source, start: int, samples: Chunk, file_size: int, common: _Common) -> bool:
    """Whether the writer did not know the number of samples, which then reach to the end of the file."""
    available = source.size - samples.start
    if available <= _SSND_HEADER_BYTES:
        return False
    if samples.size == _SSND_HEADER_BYTES and not chunks_fill_the_rest(
        source, samples.start + _SSND_HEADER_BYTES, "big"
    ):
        return True
    may_be_unknown = samples.size in (0, _SSND_HEADER_BYTES) or samples.size > available
    return may_be_unknown and is_placeholder(
        samples.size, file_size, samples.start - start, max(common.block_bytes, 1), available
    )


def parse_svx(source: Source, start: int) -> EncodedStream:
    """Check an 8SVX or 16SV.

    Raises:
      AudioError: cut short, several files in one, or without samples.
    """
    for chunk in iter_chunks(source, start + 12, "big"):
        if chunk.name == b"BODY":
            require_samples(chunk.size, source.size - chunk.start)
            check_after_samples(source, start, chunk, "big", start + 8 + source.integer(start + 4, 4))
            return EncodedStream([ByteRange(start, chunk.end)], LibsndfileOptions())
    raise AudioError("cut short or damaged: an IFF without samples (no BODY chunk)")
