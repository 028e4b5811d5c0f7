"""Ogg: a file may be a chain of recordings, each a file in itself, and each of several streams at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from spectra_jax.audio.source import Piece, Source, append
from spectra_jax.errors import AudioError

_HEADER_BYTES = 27
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))

# How the first packet of a stream begins -> what decodes it.
_DECODERS = {
    b"\x01vorbis": "libsndfile",
    b"OpusHead": "libsndfile",
    b"\x7fFLAC": "ffmpeg",  # libsndfile refuses those that FFmpeg wrote
    b"Speex   ": "ffmpeg",
}


@dataclass
class OggStream:
    """One logical stream, as the pages that it is of.

    Attributes:
      first: how its first packet begins, which names the codec.
      pieces: its pages; of one without a mark of its end, the last page bears one here.
      lowest_position: of its pages (granule positions), in samples; negative in some cuts.
    """

    first: bytes
    pieces: list[Piece] = field(default_factory=list)
    next_sequence: int | None = None
    unfinished: bool = False
    ended: bool = False
    lowest_position: int = 0

    @property
    def rate(self) -> int | None:
        """In Hz, of Vorbis; of Opus that of the original, at which libsndfile decodes it. None of other codecs."""
        known = self.first.startswith((b"\x01vorbis", b"OpusHead"))
        return int.from_bytes(self.first[12:16], "little") if known else None


@dataclass(frozen=True)
class _Page:
    start: int
    end: int
    flags: int
    serial: int
    sequence: int
    position: int
    unfinished: bool
    body: int


def links(source: Source, start: int) -> list[OggStream]:
    """The chained audio streams of an Ogg file, in their order.

    Raises:
      AudioError: cut short or damaged: an incomplete page, a checksum that does not match, a page that is missing; no
        audio stream, or several at a time.
    """
    found: list[list[OggStream]] = []
    serials: dict[int, OggStream] = {}
    headers_only = False
    for page in _pages(source, start):
        if page.flags & _FIRST:
            if not headers_only:
                _check_ends(serials)
                found.append([])
                serials = {}
            stream = serials[page.serial] = OggStream(source.read(page.body, 16))
            found[-1].append(stream)
        elif page.serial not in serials:
            raise AudioError(f"damaged: the Ogg page at byte {page.start:,} belongs to no stream")
        headers_only = bool(page.flags & _FIRST)
        _append(serials[page.serial], page, source)
    _check_ends(serials)
    last = max(
        (piece[1] for stream in serials.values() for piece in stream.pieces if isinstance(piece, tuple)), default=0
    )
    if last < source.size and not all(stream.ended for stream in serials.values()):
        raise AudioError(f"damaged: byte {last:,} begins no Ogg page, and no page before it is marked as the last")
    return [_audio_of(streams) for streams in found]


def _append(stream: OggStream, page: _Page, source: Source) -> None:
    if stream.next_sequence not in (None, page.sequence) or bool(page.flags & _CONTINUED) != stream.unfinished:
        raise AudioError(f"damaged: pages are missing before byte {page.start:,}")
    stream.next_sequence = (page.sequence + 1) & 0xFFFF_FFFF
    stream.unfinished = page.unfinished
    stream.ended = bool(page.flags & _LAST)
    # -1 stands for a page on which no packet ends.
    if page.position != -1:
        stream.lowest_position = min(stream.lowest_position, page.position)
    append(stream.pieces, page.start, page.end)


def _check_ends(serials: dict[int, OggStream]) -> None:
    if any(stream.unfinished for stream in serials.values()):
        raise AudioError("cut short: its last packet is not complete")


def _audio_of(streams: list[OggStream]) -> OggStream:
    audio = [stream for stream in streams if any(stream.first.startswith(magic) for magic in _DECODERS)]
    if not audio:
        raise AudioError(
            f"an Ogg file without audio of a known codec (its stream begins with {streams[0].first[:8]!r})"
        )
    if len(audio) > 1:
        raise AudioError(f"an Ogg file of {len(audio)} audio streams at a time: choose one of them and store it alone")
    return audio[0]


def _pages(source: Source, start: int) -> Iterator[_Page]:
    while start < source.size:
        header = source.read(start, _HEADER_BYTES + 255)
        if header[:4] != b"OggS":
            if not b"OggS".startswith(header[:4]) and b"OggS" not in source.read(start, source.size - start):
                return  # A tag, or another thing that is no audio, after the last page.
            raise AudioError(f"damaged or cut short: no Ogg page at byte {start:,}")
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
        position = int.from_bytes(page[6:14], "little", signed=True)
        yield _Page(start, end, page[5], serial, sequence, position, unfinished, body)
        start = end


def decoder(stream: OggStream) -> str:
    return next(decoder for magic, decoder in _DECODERS.items() if stream.first.startswith(magic))


def with_an_end(source: Source, stream: OggStream) -> list[Piece]:
    """The stream's pages, of which the last is marked as the last: libsndfile refuses an Opus stream without."""
    if stream.ended or not stream.pieces:
        return stream.pieces
    *before, last = stream.pieces
    assert isinstance(last, tuple)
    start = last[0]
    for page in _pages(source, last[0]):
        if page.end > last[1]:
            break
        start = page.start
    page_bytes = bytearray(source.read(start, last[1] - start))
    page_bytes[5] |= _LAST
    return [*before, (last[0], start), _with_checksum(page_bytes)]


def with_positions_from_zero(source: Source, stream: OggStream) -> list[Piece]:
    """The stream's pages, none at a negative position, at which neither decoder accepts it."""
    pieces: list[Piece] = []
    shift = 0
    for piece in stream.pieces:
        assert isinstance(piece, tuple)
        for page in _pages(source, piece[0]):
            if page.start >= piece[1]:
                break
            page_bytes = bytearray(source.read(page.start, page.end - page.start))
            if page.position < -1:
                shift = -stream.lowest_position  # The pages before hold headers.
            if page.position != -1:
                page_bytes[6:14] = (page.position + shift).to_bytes(8, "little", signed=True)
            pieces.append(_with_checksum(page_bytes))
    return pieces


def _with_checksum(page: bytearray) -> bytes:
    page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
    return bytes(page)


def checksum(page: bytes) -> int:
    """Ogg's CRC-32 of a page. zlib's is the same with the bits of each byte, and of the sum, in the other order."""
    data = page[:22] + bytes(4) + page[26:]
    reflected = zlib.crc32(data.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{reflected:032b}"[::-1], 2)
