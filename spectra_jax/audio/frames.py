"""Streams of frames without a container around them: MP3, AAC (ADTS), AC-3, AMR and GSM.

Each frame states its own length, so that a file is walked from frame to frame: what is between frames, or a last frame
that is not complete, is seen before anything is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from spectra_jax.audio.source import Piece, Source, append
from spectra_jax.errors import AudioError

# The longest that may follow the last frame without being a tag: a newline, padding, the end of a page.
TRAILING_BYTES = 1024
# How far the first frame is looked for.
_SEARCH_BYTES = 65536
# The longest frame: where a recording of a broadcast begins, the rest of one comes first.
TORN_BYTES = 2048
_IN_A_ROW = 5
# What may begin a frame: never padding with 0xFF.
_MP3_SYNC = re.compile(rb"(?s)\xff[\xe2-\xff][\x10-\xef]")
# From so many on, bytes of one value are padding, and not the start of a frame.
_FILL_BYTES = 16
_PADDING = b"\0\t\r\n "
_CONTROL = re.compile(r"[^\t\r\n -~\x80-\U0010ffff]")
_LYRICS_END = re.compile(rb"LYRICS(END|200)")
_MP3_RATES = (44100, 48000, 32000)
_MP3_KBITS = {
    (3, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AMR_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)
_AMR_WB_BYTES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)


def mp3_frame(header: bytes) -> int:
    """The bytes of the MPEG audio frame (layers I, II and III) that begins so; 0 if it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    kbit_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or kbit_index in (0, 15) or rate_index == 3:
        return 0
    kbits = _MP3_KBITS[(3, layer) if version == 3 else (2, min(layer, 2))][kbit_index]
    rate = _MP3_RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == 1:
        return (12_000 * kbits // rate + padding) * 4
    return (72_000 if layer == 3 and version != 3 else 144_000) * kbits // rate + padding


def is_free_format(source: Source, start: int) -> bool:
    """Whether MPEG audio frames begin there whose headers leave the bit rate open."""
    header = source.read(start, 4)
    # A frame of the same kind, at a bit rate that its header states.
    if len(header) < 4 or header[2] >> 4 or not mp3_frame(header[:2] + bytes([header[2] | 0x10]) + header[3:]):
        return False
    same = re.compile(re.escape(header[:2]) + b"[" + re.escape(bytes([header[2] & 0xFD, header[2] | 2])) + b"]")
    second = same.search(source.read(start, _SEARCH_BYTES), 4)
    # The frames are of one length, but for a byte of padding (four in layer I).
    return second is not None and bool(same.search(source.read(start + 2 * second.start() - 4, 11)))


def mp3_samples(header: bytes) -> int:
    """Samples per channel of an MPEG audio frame."""
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    return 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152


def adts_frame(header: bytes) -> int:
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length >= 7 else 0


def ac3_frame(header: bytes) -> int:
    """AC-3 and E-AC-3."""
    if len(header) < 6 or header[:2] != b"\x0bw":
        return 0
    if header[5] >> 3 > 10:
        return 2 * ((header[2] & 7) << 8 | header[3]) + 2
    rate_index, size_index = header[4] >> 6, header[4] & 63
    if rate_index == 3 or size_index > 37:
        return 0
    kbits = _AC3_KBITS[size_index >> 1]
    if rate_index == 1:
        return 2 * (kbits * 96_000 // 44_100 + (size_index & 1))
    return kbits * (4 if rate_index == 0 else 6)


def amr_frame(header: bytes) -> int:
    return _AMR_BYTES[header[0] >> 3 & 15] if header and not header[0] & 0x83 else 0


def amr_wb_frame(header: bytes) -> int:
    return _AMR_WB_BYTES[header[0] >> 3 & 15] if header and not header[0] & 0x83 else 0


def ac3_samples(header: bytes) -> int:
    blocks = 6 if header[5] >> 3 <= 10 or header[4] >> 6 == 3 else (1, 2, 3, 6)[header[4] >> 4 & 3]
    # Of E-AC-3 a dependent frame holds more channels of the same samples.
    return 0 if header[5] >> 3 > 10 and header[2] >> 6 == 1 else 256 * blocks


def adts_samples(header: bytes) -> int:
    return 1024 * (1 + (header[6] & 3))


def gsm_frame(header: bytes) -> int:
    return 33 if header and header[0] >> 4 == 13 else 0


FrameLength = Callable[[bytes], int]


def find_frames(source: Source, start: int, length_of: FrameLength, search_bytes: int = 0) -> int | None:
    """Where, from `start` on, frames follow one another up to the file's end, or five of them.

    Leading zeros are passed over, and with `search_bytes` the rest of a frame, which is where recording began in the
    middle of a broadcast.
    """
    head = source.read(start, _SEARCH_BYTES)
    first = start + len(head) - len(head.lstrip(b"\0"))
    if _follow(source, first, length_of):
        return first
    if length_of(source.read(first, 16)):
        return None  # A frame and no second one: damaged, if it is one at all.
    for position in range(first + 1, min(first + search_bytes, source.size)):
        if _follow(source, position, length_of) == _IN_A_ROW:
            return position
    return None


def _follow(source: Source, position: int, length_of: FrameLength) -> int:
    """How many frames follow one another, at most five; 0 if something else comes before."""
    for number in range(_IN_A_ROW):
        header = source.read(position, 16)
        length = length_of(header)
        if length == 0:
            # A tag or the end after the frames, or else what looked like a frame is none.
            return number if number and (tag_bytes(header) or _is_trailing(source, position)) else 0
        position += length
        if number == 0 and position > source.size:
            return 0
    return _IN_A_ROW


def walk(
    source: Source,
    start: int,
    length_of: FrameLength,
    name: str,
    after_other: Callable[[Source, int], int] | None = None,
) -> Iterator[tuple[int, int]]:
    """Start and end of every frame from `start` to the end of the file, without the tags between them.

    Args:
      source: the file.
      start: where the first frame begins.
      length_of: the length of a frame, from its header.
      name: what messages call the codec.
      after_other: given where bytes begin that are neither a frame nor a tag, returns where to go on behind them; the
        same position if they may be damaged frames.

    Raises:
      AudioError: the last frame is not complete, or something that is neither a frame nor a tag is between frames.
    """
    position = start
    end = without_tags(source)
    while position < source.size:
        header = source.read(position, 16)
        length = length_of(header)
        stop = end if position < end else source.size
        if position + length > stop:
            held = stop - position
            raise AudioError(f"cut short: its last {name} frame has {held:,} of its {length:,} bytes")
        if length:
            yield position, position + length
            position += length
        elif tag := tag_bytes(header) or _lyrics_bytes(source, position):
            position += tag
        elif position == end or _is_trailing(source, position, stop):
            return
        elif after_other and (resumed := after_other(source, position)) > position:
            position = resumed
        else:
            raise AudioError(f"damaged: byte {position:,} begins no {name} frame")


def without_tags(source: Source) -> int:
    """Where a file ends without the tags (ID3v1, APE) behind it."""
    end = source.size
    if end >= 128 and source.read(end - 128, 3) == b"TAG":
        end -= 128
    footer = source.read(end - 32, 32) if end >= 32 else b""
    if footer[:8] == b"APETAGEX":
        # The size is with the footer and without the header, of which a flag tells.
        has_header = footer[23] & 0x80
        end -= int.from_bytes(footer[12:16], "little") + (32 if has_header else 0)
    return max(end, 0)


def tag_bytes(header: bytes) -> int:
    """The length of the ID3 or APE tag that begins so; 0 if it is none."""
    if header[:3] == b"ID3" and len(header) >= 10 and max(header[6:10]) < 128:
        size = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
        return 10 + size + (10 if header[5] & 0x10 else 0)
    if header[:3] == b"TAG":
        return 128
    if header[:8] == b"APETAGEX":
        # The size is without the tag's header, and the tag begins with one unless it is at its end.
        return 32 + (int.from_bytes(header[12:16], "little") if len(header) >= 16 else 0)
    return 0


def _lyrics_bytes(source: Source, position: int) -> int:
    """The length of the Lyrics3 tag that begins there; 0 if none does, or none that ends."""
    text = source.read(position, _SEARCH_BYTES)
    found = _LYRICS_END.search(text) if text.startswith(b"LYRICSBEGIN") else None
    return found.end() if found else 0


def _is_trailing(source: Source, position: int, end: int | None = None) -> bool:
    """Whether what follows, up to `end`, may be left out: padding, lyrics or text. Possibly damaged frames may not."""
    end = source.size if end is None else end
    rest = source.read(position, min(end - position, _SEARCH_BYTES))
    if rest.startswith(b"LYRICSBEGIN"):
        return True
    filled = len(rest) >= _FILL_BYTES and len(set(rest)) == 1
    return position + len(rest) == end and (filled or _is_text(rest.strip(_PADDING)))


def _is_text(content: bytes) -> bool:
    try:
        return not _CONTROL.search(content.decode())
    except UnicodeDecodeError:
        return False


class _StatedCount:
    """The frames of joined MP3s, counted and compared with the number that each of them states at its start."""

    def __init__(self) -> None:
        self._stated = (0, 0)
        self._number = self._num_bytes = 0

    def restart(self, stated: tuple[int, int]) -> None:
        """Raises AudioError: frames of the stream before are missing."""
        self.check()
        self._stated, self._number, self._num_bytes = stated, 0, 0

    def add(self, num_frames: int, num_bytes: int) -> None:
        self._number += num_frames
        self._num_bytes += num_bytes

    @property
    def _missing(self) -> int:
        missing = self._stated[0] - self._number
        # A few encoders count the describing frame too.
        return 0 if missing == 1 and self._num_bytes >= self._stated[1] else missing

    def check(self) -> None:
        if self._missing > 0:
            raise AudioError(
                f"cut short: {self._number:,} of the {self._stated[0]:,} MP3 frames that its header states"
            )

    def after_other(self, source: Source, position: int) -> int:
        """Where to go on behind bytes that are no frame; `position` itself if they may be damaged frames.

        Behind a stream that has all frames that it states, anything may follow that holds no frames. Padding may
        separate two streams, where the first is complete or the second one states what it is: zeros in the middle of a
        stream are damage.
        """
        complete = self._stated[0] > 0 and self._missing == 0
        gap = source.read(position, _SEARCH_BYTES)
        behind = position + len(gap) - len(gap.lstrip(_PADDING))
        if behind > position:
            header = source.read(behind, 64)
            if tag_bytes(header) or _describes(header) or (complete and _follow(source, behind, mp3_frame)):
                return behind
        return source.size if complete and not _has_frames(source, position) else position


def _has_frames(source: Source, start: int) -> bool:
    """Whether frames follow one another somewhere behind `start`."""
    for position in range(start, source.size, _SEARCH_BYTES):
        for sync in _MP3_SYNC.finditer(source.read(position, _SEARCH_BYTES + 2)):
            if _follow(source, position + sync.start(), mp3_frame):
                return True
    return False


def mp3(source: Source, start: int) -> tuple[list[Piece], int]:
    """The frames of an MP3's audio, and how many samples at least they hold.

    Of joined files each may begin with a frame that describes it and holds no audio. The very first is kept, since it
    states what the encoder added before and after the samples; the others would be decoded as silence.

    Raises:
      AudioError: cut short or damaged; a describing frame states more frames than follow it.
    """
    kept: list[Piece] = []
    num_added = _added_by_lame(source.read(start, 256))
    num_samples = 0
    count = _StatedCount()
    for begin, end in walk(source, start, mp3_frame, "MP3", count.after_other):
        header = source.read(begin, 64)
        described = _describes(header)
        if described:
            count.restart(described)
        else:
            num_samples += mp3_samples(header)
        count.add(0 if described else 1, end - begin)
        if not kept or not described:
            append(kept, begin, end)
    count.check()
    return kept, num_samples - num_added


def _describes(header: bytes) -> tuple[int, int] | None:
    """The numbers of frames and of bytes that a frame without audio states; None if it is not one."""
    return (_stated_by_xing(header) or _stated_by_vbri(header)) if mp3_frame(header) else None


def _stated_by_xing(frame: bytes) -> tuple[int, int] | None:
    """The numbers of frames and of bytes that an encoder wrote into a frame of its own: 0 for what it left out."""
    mono = frame[3] >> 6 == 3
    # Behind the side information of Layer III.
    offset = (21 if mono else 36) if frame[1] >> 3 & 3 == 3 else (13 if mono else 21)
    if frame[offset : offset + 4] not in (b"Xing", b"Info"):
        return None
    flags = frame[offset + 7]
    fields = [int.from_bytes(frame[offset + k : offset + k + 4], "big") for k in (8, 12)]
    number = fields.pop(0) if flags & 1 else 0
    return number, fields[0] if flags & 2 else 0


def _added_by_lame(frame: bytes) -> int:
    """How many samples FFmpeg leaves out, which the encoder states that it added to the recording."""
    begin = max(frame.find(b"Xing"), frame.find(b"Info"))
    if begin < 0 or len(frame) < begin + 144:
        return 0
    fields = int.from_bytes(frame[begin + 141 : begin + 144], "big")
    # The decoder's own delay comes on top of it.
    return (fields >> 12) + 529 + max((fields & 4095) - 529, 0)


def _stated_by_vbri(frame: bytes) -> tuple[int, int] | None:
    if frame[36:40] != b"VBRI":
        return None
    return int.from_bytes(frame[50:54], "big"), int.from_bytes(frame[46:50], "big")
