"""Ogg: pages of logical streams. A file may chain several recordings, each with several streams at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions, LibsndfileOptions
from spectra_jax.audio.source import ByteRange, Source, Span, append_range
from spectra_jax.errors import AudioError

_HEADER_BYTES = 27
# Flags of a page: its first packet began on the page before; first and last page of its logical stream.
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_NO_POSITION = -1
_REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))

_VORBIS, _OPUS = b"\x01vorbis", b"OpusHead"
# libsndfile rejects FLAC in Ogg that FFmpeg wrote, and does not know Speex.
_AUDIO_MAGICS = (_VORBIS, _OPUS, b"\x7fFLAC", b"Speex   ")


@dataclass
class LogicalStream:
    """One logical stream of an Ogg file.

    Attributes:
      magic: the first 16 bytes of its first packet, which name the codec.
      ranges: of the file, that hold its pages.
      next_sequence: the number that the next page has to have.
      unfinished: whether the last packet is continued on the next page.
      ended: whether the last page so far is marked as the stream's last.
      lowest_position: the lowest granule position of its pages, in samples; negative in some cuts.
    """

    magic: bytes
    ranges: list[Span] = field(default_factory=list)
    next_sequence: int | None = None
    unfinished: bool = False
    ended: bool = False
    lowest_position: int = 0

    @property
    def is_opus(self) -> bool:
        return self.magic.startswith(_OPUS)

    @property
    def rate(self) -> int | None:
        """In Hz, of Vorbis; of Opus that of the original, at which libsndfile decodes it. None of other codecs."""
        return int.from_bytes(self.magic[12:16], "little") if self.magic.startswith((_VORBIS, _OPUS)) else None


@dataclass(frozen=True)
class _Page:
    """A page: its bytes in the file, the fields of its header, and the position of its first packet's bytes."""

    start: int
    end: int
    flags: int
    serial: int
    sequence: int
    granule_position: int
    unfinished: bool
    body: int


def parse_ogg(source: Source, start: int) -> list[EncodedStream]:
    """The chained audio streams of an Ogg file, in their order.

    Raises:
      AudioError: see `read_chain`.
    """
    streams = read_chain(source, start)
    # libsndfile decodes each Opus stream at the rate of its original, FFmpeg all of them at 48 kHz.
    same_rate = len({stream.rate for stream in streams if stream.rate}) <= 1
    return [_encoded(source, stream, same_rate) for stream in streams]


def _encoded(source: Source, stream: LogicalStream, same_rate: bool) -> EncodedStream:
    ffmpeg = FFmpegOptions("ogg")
    if stream.lowest_position < 0:
        # As in FFmpeg's cuts without encoding. libsndfile then returns samples that it never set.
        return EncodedStream(_with_positions_from_zero(source, stream), ffmpeg=ffmpeg)
    spans = _with_last_page_marked(source, stream)
    if stream.magic.startswith(_VORBIS):
        return EncodedStream(spans, LibsndfileOptions())
    if stream.is_opus and same_rate:
        # libsndfile rejects Opus streams that begin with samples to leave out, as FFmpeg's cuts without encoding do.
        return EncodedStream(spans, LibsndfileOptions(), ffmpeg, fallback=AudioError)
    return EncodedStream(spans, ffmpeg=ffmpeg)


def read_chain(source: Source, start: int) -> list[LogicalStream]:
    """The audio stream of each recording that is chained in an Ogg file, in their order.

    Raises:
      AudioError: cut short or damaged: an incomplete page, a checksum that does not match, a missing page; no audio
        stream, or several at a time.
    """
    chain: list[list[LogicalStream]] = []
    by_serial: dict[int, LogicalStream] = {}
    only_first_pages = False
    end = 0
    for page in _read_pages(source, start):
        if page.flags & _FIRST:
            # The first pages of all streams of a recording come before their other pages.
            if not only_first_pages:
                _check_last_packets(by_serial)
                chain.append([])
                by_serial, end = {}, 0
            stream = by_serial[page.serial] = LogicalStream(source.read(page.body, 16))
            chain[-1].append(stream)
        elif page.serial not in by_serial:
            raise AudioError(f"damaged: the Ogg page at byte {page.start:,} belongs to no stream")
        only_first_pages = bool(page.flags & _FIRST)
        _append_page(by_serial[page.serial], page)
        end = page.end
    _check_last_packets(by_serial)
    if end < source.size and not all(stream.ended for stream in by_serial.values()):
        raise AudioError(f"damaged: no Ogg page begins at byte {end:,}, and no page before it is marked as the last")
    return [_only_audio_stream(streams) for streams in chain]


def _append_page(stream: LogicalStream, page: _Page) -> None:
    if stream.next_sequence not in (None, page.sequence) or bool(page.flags & _CONTINUED) != stream.unfinished:
        raise AudioError(f"damaged: pages are missing before byte {page.start:,}")
    stream.next_sequence = (page.sequence + 1) & 0xFFFF_FFFF
    stream.unfinished = page.unfinished
    stream.ended = bool(page.flags & _LAST)
    if page.granule_position != _NO_POSITION:  # A packet ends on the page.
        stream.lowest_position = min(stream.lowest_position, page.granule_position)
    append_range(stream.ranges, page.start, page.end)


def _check_last_packets(by_serial: dict[int, LogicalStream]) -> None:
    if any(stream.unfinished for stream in by_serial.values()):
        raise AudioError("cut short: its last packet is not complete")


def _only_audio_stream(streams: list[LogicalStream]) -> LogicalStream:
    audio = [stream for stream in streams if stream.magic.startswith(_AUDIO_MAGICS)]
    if not audio:
        raise AudioError(
            f"an Ogg file without audio of a known codec (its stream begins with {streams[0].magic[:8]!r})"
        )
    if len(audio) > 1:
        raise AudioError(f"an Ogg file of {len(audio)} audio streams at a time: choose one of them and store it alone")
    return audio[0]


def _read_pages(source: Source, start: int) -> Iterator[_Page]:
    while start < source.size:
        header = source.read(start, _HEADER_BYTES + 255)
        if header[:4] != b"OggS":
            if not b"OggS".startswith(header[:4]) and b"OggS" not in source.read(start, source.size - start):
                return  # A tag, or something else that is not audio, behind the last page.
            raise AudioError(f"damaged or cut short: no Ogg page begins at byte {start:,}")
        segments = header[_HEADER_BYTES : _HEADER_BYTES + header[26]] if len(header) > 26 else b""
        body = start + _HEADER_BYTES + len(segments)
        end = body + sum(segments)
        if len(header) <= 26 or len(segments) < header[26] or end > source.size:
            raise AudioError(f"cut short: the last Ogg page, at byte {start:,}, is not complete")
        page = source.read(start, end - start)
        if checksum(page) != int.from_bytes(page[22:26], "little"):
            raise AudioError(f"damaged: the Ogg page at byte {start:,} does not match its checksum")
        unfinished = bool(segments) and segments[-1] == 255
        serial, sequence = (int.from_bytes(page[k : k + 4], "little") for k in (14, 18))
        granule_position = int.from_bytes(page[6:14], "little", signed=True)
        yield _Page(start, end, page[5], serial, sequence, granule_position, unfinished, body)
        start = end


def _with_last_page_marked(source: Source, stream: LogicalStream) -> list[Span]:
    """The stream's pages, the last one marked as the last: libsndfile rejects an Opus stream without the mark."""
    if stream.ended or not stream.ranges:
        return stream.ranges
    *before, last = stream.ranges
    assert isinstance(last, ByteRange)
    start = last.start
    for page in _read_pages(source, last.start):
        if page.end > last.end:
            break
        start = page.start
    page_bytes = bytearray(source.read(start, last.end - start))
    page_bytes[5] |= _LAST
    return [*before, ByteRange(last.start, start), _with_checksum(page_bytes)]


def _with_positions_from_zero(source: Source, stream: LogicalStream) -> list[Span]:
    """The stream's pages without negative granule positions, which neither decoder accepts."""
    spans: list[Span] = []
    shift = 0
    for pages in stream.ranges:
        assert isinstance(pages, ByteRange)
        for page in _read_pages(source, pages.start):
            if page.start >= pages.end:
                break
            page_bytes = bytearray(source.read(page.start, page.end - page.start))
            if page.granule_position < _NO_POSITION:
                shift = -stream.lowest_position  # The pages before hold headers.
            if page.granule_position != _NO_POSITION:
                page_bytes[6:14] = (page.granule_position + shift).to_bytes(8, "little", signed=True)
            spans.append(_with_checksum(page_bytes))
    return spans


def _with_checksum(page: bytearray) -> bytes:
    page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
    return bytes(page)


def checksum(page: bytes) -> int:
    """Ogg's CRC-32 of a page. zlib's is the same with the bits of each byte, and of the sum, in the other order."""
    data = page[:22] + bytes(4) + page[26:]
    reflected = zlib.crc32(data.translate(_REVERSED_BITS), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{reflected:032b}"[::-1], 2)
