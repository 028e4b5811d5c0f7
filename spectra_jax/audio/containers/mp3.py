"""MP3 and the other MPEG audio layers: frame headers, and the frames by which encoders describe a stream."""

from __future__ import annotations

import re
from typing import NamedTuple

from spectra_jax.audio.containers.frames import PADDING, SEARCH_BYTES, count_frames, iter_frames
from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions
from spectra_jax.audio.containers.tags import tag_length
from spectra_jax.audio.source import Source, Span, append_range
from spectra_jax.errors import AudioError

# What may begin a frame: never padding with 0xFF.
_SYNC = re.compile(rb"(?s)\xff[\xe2-\xff][\x10-\xef]")
_RATES = (44100, 48000, 32000)
# By (version, layer), version 3 being MPEG 1.
_KBITS = {
    (3, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# Samples that the decoder itself delays the recording by.
_DECODER_DELAY = 529


def _version_and_layer(header: bytes) -> tuple[int, int]:
    """Version 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5; layer 4 does not exist."""
    return header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)


def mp3_frame_length(header: bytes) -> int:
    """In bytes, of the MPEG audio frame (layers I, II and III) that begins with `header`; 0 if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = _version_and_layer(header)
    kbit_index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or kbit_index in (0, 15) or rate_index == 3:
        return 0
    kbits = _KBITS[(3, layer) if version == 3 else (2, min(layer, 2))][kbit_index]
    rate = _RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == 1:
        return (12_000 * kbits // rate + padding) * 4
    return (72_000 if layer == 3 and version != 3 else 144_000) * kbits // rate + padding


def mp3_samples(header: bytes) -> int:
    """Samples per channel of an MPEG audio frame."""
    version, layer = _version_and_layer(header)
    return 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152


def is_free_format(source: Source, start: int) -> bool:
    """Whether MPEG audio frames begin at `start` whose headers leave the bit rate open (free format)."""
    header = source.read(start, 4)
    # The same frame header would be valid with a bit rate.
    with_bit_rate = header[:2] + bytes([header[2] | 0x10]) + header[3:] if len(header) == 4 else b""
    if len(header) < 4 or header[2] >> 4 or not mp3_frame_length(with_bit_rate):
        return False
    same = re.compile(re.escape(header[:2]) + b"[" + re.escape(bytes([header[2] & 0xFD, header[2] | 2])) + b"]")
    second = same.search(source.read(start, SEARCH_BYTES), 4)
    # All frames have one length, apart from a byte of padding (four in layer I).
    return second is not None and bool(same.search(source.read(start + 2 * second.start() - 4, 11)))


class _Counts(NamedTuple):
    """The numbers of frames and of bytes that a stream states; 0 for a number that it does not state."""

    frames: int
    num_bytes: int


def _read_info_frame(header: bytes) -> _Counts | None:
    """What an info frame (Xing, Info or VBRI), which holds no audio, states of the stream; None if it is not one."""
    return (_read_xing(header) or _read_vbri(header)) if mp3_frame_length(header) else None


def _read_xing(frame: bytes) -> _Counts | None:
    is_mono = frame[3] >> 6 == 3
    # Behind the side information of Layer III, whose length depends on the version and the channels.
    offset = (21 if is_mono else 36) if _version_and_layer(frame)[0] == 3 else (13 if is_mono else 21)
    if frame[offset : offset + 4] not in (b"Xing", b"Info"):
        return None
    flags = frame[offset + 7]
    fields = [int.from_bytes(frame[offset + k : offset + k + 4], "big") for k in (8, 12)]
    frames = fields.pop(0) if flags & 1 else 0
    return _Counts(frames, fields[0] if flags & 2 else 0)


def _read_vbri(frame: bytes) -> _Counts | None:
    if frame[36:40] != b"VBRI":
        return None
    return _Counts(int.from_bytes(frame[50:54], "big"), int.from_bytes(frame[46:50], "big"))


def _encoder_padding(frame: bytes) -> int:
    """Samples of encoder delay and padding (LAME tag) that FFmpeg removes."""
    begin = max(frame.find(b"Xing"), frame.find(b"Info"))
    if begin < 0 or len(frame) < begin + 144:
        return 0
    fields = int.from_bytes(frame[begin + 141 : begin + 144], "big")
    return (fields >> 12) + _DECODER_DELAY + max((fields & 4095) - _DECODER_DELAY, 0)


class _FrameCounter:
    """Counts the frames of joined MP3 streams and compares them with the number that each stream states."""

    def __init__(self) -> None:
        self._stated = _Counts(0, 0)
        self._frames = self._num_bytes = 0

    def start_stream(self, stated: _Counts) -> None:
        """Begin to count another stream. Raises AudioError: frames of the one before are missing."""
        self.check()
        self._stated, self._frames, self._num_bytes = stated, 0, 0

    def add(self, frames: int, num_bytes: int) -> None:
        self._frames += frames
        self._num_bytes += num_bytes

    @property
    def _missing(self) -> int:
        missing = self._stated.frames - self._frames
        # A few encoders count the info frame too.
        return 0 if missing == 1 and self._num_bytes >= self._stated.num_bytes else missing

    def check(self) -> None:
        """Raise AudioError if frames of the current stream are missing."""
        if self._missing > 0:
            raise AudioError(
                f"cut short: {self._frames:,} of the {self._stated.frames:,} MP3 frames that its header states"
            )

    def skip_unknown(self, source: Source, position: int) -> int:
        """The position behind bytes that are not a frame; `position` itself if they may be damaged frames.

        Anything without frames may follow a stream that has all frames that it states. Padding may separate two
        streams, if the first is complete or the second begins with a tag or an info frame: zeros in the middle of a
        stream are damage.
        """
        complete = self._stated.frames > 0 and self._missing == 0
        gap = source.read(position, SEARCH_BYTES)
        behind = position + len(gap) - len(gap.lstrip(PADDING))
        if behind > position:
            header = source.read(behind, 64)
            if (
                tag_length(header)
                or _read_info_frame(header)
                or (complete and count_frames(source, behind, mp3_frame_length))
            ):
                return behind
        return source.size if complete and not _has_frames(source, position) else position


def _has_frames(source: Source, start: int) -> bool:
    """Whether frames follow one another somewhere behind `start`."""
    for position in range(start, source.size, SEARCH_BYTES):
        for sync in _SYNC.finditer(source.read(position, SEARCH_BYTES + 2)):
            if count_frames(source, position + sync.start(), mp3_frame_length):
                return True
    return False


def parse_mp3(source: Source, start: int) -> EncodedStream:
    """The frames of an MP3 that hold audio.

    Each of several joined files may begin with an info frame. The very first one is kept, since it states the encoder's
    delay and padding; the others would be decoded as silence.

    Raises:
      AudioError: cut short or damaged; an info frame states more frames than follow it.
    """
    spans: list[Span] = []
    padding = _encoder_padding(source.read(start, 256))
    num_samples = 0
    counter = _FrameCounter()
    for begin, end in iter_frames(source, start, mp3_frame_length, "MP3", counter.skip_unknown):
        header = source.read(begin, 64)
        info = _read_info_frame(header)
        if info:
            counter.start_stream(info)
        else:
            num_samples += mp3_samples(header)
        counter.add(0 if info else 1, end - begin)
        if not spans or not info:
            append_range(spans, begin, end)
    counter.check()
    return EncodedStream(spans, ffmpeg=FFmpegOptions("mp3", min_samples=num_samples - padding))
