"""WAV in its little-endian, big-endian (RIFX) and 64-bit (RF64, BW64) kinds, and Sony's Wave64."""

from __future__ import annotations

from dataclasses import dataclass

from spectra_jax.audio.containers.chunks import (
    Chunk,
    Field,
    check_after_samples,
    check_trailer,
    check_unknown_length,
    chunks_fill_the_rest,
    is_placeholder,
    iter_chunks,
    replace_fields,
    require_samples,
)
from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions, LibsndfileOptions
from spectra_jax.audio.samples import MAX_CHANNELS
from spectra_jax.audio.source import ByteOrder, ByteRange, Source, Span
from spectra_jax.errors import AudioError

# Format tags that libsndfile decodes. GSM 6.10 (0x31) is not among them: it decodes the byte of padding too.
_LIBSNDFILE_TAGS = {1, 2, 3, 6, 7, 0x11, 0x38, 0x40}
_EXTENSIBLE_TAG = 0xFFFE
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# The same of an Ambisonic WAV, which libsndfile knows too.
_AMBISONIC_TAIL = bytes.fromhex("00002107d3118644c8c1ca000000")


@dataclass(frozen=True)
class _Header:
    """What the chunks of a WAV state.

    Attributes:
      start: the position of the recording.
      magic: its first four bytes.
      order: of the bytes of its integers.
      riff_size: bytes of the file behind this field.
      format_tag: the codec's number.
      block_bytes: of one sample of all channels, or of one block of a codec; at least 1.
      data: the chunk of samples.
      data_size: of the samples in bytes; of a 64-bit WAV that of its ds64 chunk.
      size_field: position and length in bytes of the field that states `data_size`.
      ds64: the chunk of 64-bit sizes.
    """

    start: int
    magic: bytes
    order: ByteOrder
    riff_size: int
    format_tag: int
    block_bytes: int
    data: Chunk
    data_size: int
    size_field: tuple[int, int]
    ds64: Chunk | None

    @property
    def is_64_bit(self) -> bool:
        return self.size_field[1] == 8


def parse_wav(source: Source, start: int) -> EncodedStream:
    """Check a WAV.

    Raises:
      AudioError: cut short, several files in one, several data chunks, or without samples.
    """
    header = _read_header(source, start)
    libsndfile = LibsndfileOptions() if header.format_tag in _LIBSNDFILE_TAGS else None
    ffmpeg = FFmpegOptions("wav", f"WAV codec 0x{header.format_tag:04X}")
    available = source.size - header.data.start
    if _has_unknown_length(source, header):
        check_unknown_length(source, header.data.start, available, header.block_bytes)
        riff_size = Field(start + 4, 4, source.size - start - 8)
        if header.is_64_bit:
            riff_size = Field(header.ds64.start if header.ds64 else 0, 8, source.size - start - 8)
        spans = replace_fields(source, start, [riff_size, Field(*header.size_field, available)], header.order)
        return EncodedStream(_as_rf64(header.magic, spans), libsndfile, ffmpeg)
    size = header.data_size
    if size == source.size - start and header.riff_size + 8 == source.size - start:
        size = available  # A writer that counted its header as samples.
    require_samples(size, available)
    samples = Chunk(b"data", header.data.start, size)
    check_after_samples(source, start, samples, header.order, start + 8 + header.riff_size)
    spans = [ByteRange(start, source.size)]
    if libsndfile is None and size % header.block_bytes == 1 and not header.is_64_bit:
        # SoX counts the byte of padding, which FFmpeg would decode as a block.
        spans = replace_fields(source, start, [Field(*header.size_field, size - 1)], header.order)
    return EncodedStream(_as_rf64(header.magic, spans), libsndfile, ffmpeg)


def _read_header(source: Source, start: int) -> _Header:
    magic = source.read(start, 4)
    order: ByteOrder = "big" if magic == b"RIFX" else "little"
    format_tag = block_bytes = 0
    ds64: Chunk | None = None
    data: Chunk | None = None
    for chunk in iter_chunks(source, start + 12, order):
        if chunk.name == b"fmt ":
            format_tag = _format_tag(source, chunk, order)
            block_bytes = max(source.integer(chunk.start + 12, 2, order), 1)
            channels, rate = source.integer(chunk.start + 2, 2, order), source.integer(chunk.start + 4, 4, order)
            if not 1 <= channels <= MAX_CHANNELS or rate == 0:
                raise AudioError(f"damaged or not audio: its header states {channels:,} channels at {rate:,} Hz")
        elif chunk.name == b"ds64":
            ds64 = chunk
        elif chunk.name == b"LIST" and source.read(chunk.start, 4) == b"wavl":
            raise AudioError(
                "a WAV whose samples are a list of chunks (wavl), which neither libsndfile nor FFmpeg reads "
                "completely: convert it to another format"
            )
        elif chunk.name == b"data":
            data = chunk
            break
    if data is None:
        raise AudioError("cut short or damaged: a WAV without samples (no data chunk)")
    if not block_bytes:
        raise AudioError("damaged: a WAV whose fmt chunk, which describes its samples, is missing or empty")
    riff_size, data_size, size_field = source.integer(start + 4, 4, order), data.size, (data.start - 4, 4)
    if ds64 and magic in (b"RF64", b"BW64") and data_size == 0xFFFF_FFFF:
        riff_size = source.integer(ds64.start, 8, order)
        data_size, size_field = source.integer(ds64.start + 8, 8, order), (ds64.start + 8, 8)
    return _Header(start, magic, order, riff_size, format_tag, block_bytes, data, data_size, size_field, ds64)


def _format_tag(source: Source, chunk: Chunk, order: ByteOrder) -> int:
    tag = source.integer(chunk.start, 2, order)
    if tag != _EXTENSIBLE_TAG:
        return tag
    subformat = source.read(chunk.start + 24, 16)
    if subformat[2:] in (_SUBFORMAT_TAIL, _AMBISONIC_TAIL):
        return int.from_bytes(subformat[:2], "little")
    return tag


def _has_unknown_length(source: Source, header: _Header) -> bool:
    """Whether the writer did not know the number of samples, which then reach to the end of the file."""
    data, size = header.data, header.data_size
    available = source.size - data.start
    if available == 0 or size >= 1 << 63:
        return available > 0
    if size == 0:
        return not chunks_fill_the_rest(source, data.start, header.order)
    offset = data.start - header.start
    return size > available and is_placeholder(size, header.riff_size, offset, header.block_bytes, available)


def _as_rf64(magic: bytes, spans: list[Span]) -> list[Span]:
    """BW64 is RF64 by another name, which libsndfile does not know."""
    first = spans[0]
    if magic != b"BW64" or isinstance(first, bytes):
        return spans
    return [b"RF64", ByteRange(first.start + 4, first.end), *spans[1:]]


def parse_wave64(source: Source, start: int) -> EncodedStream:
    """Check a Wave64 (W64): RIFF with 64-bit lengths and names of 16 bytes.

    Raises:
      AudioError: cut short, several files in one, or without samples.
    """
    stated_end = start + source.integer(start + 16, 8, "little")
    block_bytes = 0
    for chunk in iter_chunks(source, start + 40, "little", name_bytes=16, size_bytes=8):
        if chunk.name[:4] == b"fmt ":
            block_bytes = source.integer(chunk.start + 12, 2, "little")
        if chunk.name[:4] != b"data":
            continue
        available = source.size - chunk.start
        if chunk.size >= 1 << 62 or (chunk.size == 0 and available):
            check_unknown_length(source, chunk.start, available, max(block_bytes, 1))
            fields = [Field(start + 16, 8, source.size - start), Field(chunk.start - 8, 8, available + 24)]
            spans = replace_fields(source, start, fields, "little")
            return EncodedStream(spans, LibsndfileOptions(), FFmpegOptions("w64"))
        require_samples(chunk.size, available)
        check_trailer(source, max(min(stated_end, source.size), chunk.end), chunk.size)
        # libsndfile decodes what follows as samples, including the padding to eight bytes.
        return EncodedStream([ByteRange(start, chunk.end)], LibsndfileOptions(), FFmpegOptions("w64"))
    raise AudioError("cut short or damaged: a W64 without samples (no data chunk)")
