"""Frame headers of AAC (ADTS), AC-3, AMR and GSM: the length of a frame and its number of samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from spectra_jax.audio.containers.frames import FrameLength, iter_frames
from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions
from spectra_jax.audio.source import Source, Span, append_range

_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
# By the frame type of its header: speech at each bit rate, comfort noise (SID), lost and empty frames.
_AMR_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 0, 1)
_AMR_WB_BYTES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1)
# Bit stream identifiers (bsid) above this one are E-AC-3's.
_AC3_LAST_BSID = 10


def adts_frame_length(header: bytes) -> int:
    """In bytes, of the AAC frame (ADTS) that begins with `header`; 0 if none does."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length >= 7 else 0


def adts_samples(header: bytes) -> int:
    """Samples per channel of an AAC frame (ADTS)."""
    return 1024 * (1 + (header[6] & 3))


def ac3_frame_length(header: bytes) -> int:
    """In bytes, of the AC-3 or E-AC-3 frame that begins with `header`; 0 if none does."""
    if len(header) < 6 or header[:2] != b"\x0bw":
        return 0
    if _is_eac3(header):
        return 2 * ((header[2] & 7) << 8 | header[3]) + 2
    rate_index, size_index = header[4] >> 6, header[4] & 63
    if rate_index == 3 or size_index > 37:
        return 0
    kbits = _AC3_KBITS[size_index >> 1]
    if rate_index == 1:
        return 2 * (kbits * 96_000 // 44_100 + (size_index & 1))
    return kbits * (4 if rate_index == 0 else 6)


def ac3_samples(header: bytes) -> int:
    """Samples per channel of an AC-3 or E-AC-3 frame."""
    blocks = 6 if not _is_eac3(header) or header[4] >> 6 == 3 else (1, 2, 3, 6)[header[4] >> 4 & 3]
    # A dependent frame of E-AC-3 holds more channels of the same samples.
    return 0 if _is_eac3(header) and header[2] >> 6 == 1 else 256 * blocks


def _is_eac3(header: bytes) -> bool:
    return header[5] >> 3 > _AC3_LAST_BSID


def amr_frame_length(header: bytes) -> int:
    """In bytes, of the AMR (narrowband) frame that begins with `header`; 0 if none does."""
    return _AMR_BYTES[header[0] >> 3 & 15] if header and not header[0] & 0x83 else 0


def amr_wb_frame_length(header: bytes) -> int:
    """In bytes, of the AMR-WB frame that begins with `header`; 0 if none does."""
    return _AMR_WB_BYTES[header[0] >> 3 & 15] if header and not header[0] & 0x83 else 0


def gsm_frame_length(header: bytes) -> int:
    """In bytes, of the GSM 06.10 frame that begins with `header`; 0 if none does."""
    return 33 if header and header[0] >> 4 == 13 else 0


@dataclass(frozen=True)
class FrameCodec:
    """A codec whose frames make a file without a container around them.

    Attributes:
      name: what messages call it.
      demuxer: FFmpeg's name of such a file.
      frame_length: see `FrameLength`.
      num_samples: per channel, of a frame, from its header.
      magic_bytes: before the first frame.
    """

    name: str
    demuxer: str
    frame_length: FrameLength
    num_samples: Callable[[bytes], int]
    magic_bytes: int = 0


FRAME_CODECS = {
    "aac": FrameCodec("AAC", "aac", adts_frame_length, adts_samples),
    "ac3": FrameCodec("AC-3", "ac3", ac3_frame_length, ac3_samples),
    "gsm": FrameCodec("GSM", "gsm", gsm_frame_length, lambda _: 160),
    "amr": FrameCodec("AMR", "amr", amr_frame_length, lambda _: 160, magic_bytes=6),
    "amr-wb": FrameCodec("AMR", "amr", amr_wb_frame_length, lambda _: 320, magic_bytes=9),
}


def parse_frames(codec: FrameCodec, source: Source, start: int) -> EncodedStream:
    """A stream of frames, one after another, without the tags between them.

    Raises:
      AudioError: see `iter_frames`.
    """
    spans: list[Span] = [source.read(start, codec.magic_bytes)]
    num_samples = 0
    for begin, end in iter_frames(source, start + codec.magic_bytes, codec.frame_length, codec.name):
        append_range(spans, begin, end)
        num_samples += codec.num_samples(source.read(begin, 16))
    eac3 = codec.demuxer == "ac3" and _is_eac3(source.read(start, 6))
    return EncodedStream(spans, ffmpeg=FFmpegOptions("eac3" if eac3 else codec.demuxer, min_samples=num_samples))


FRAME_PARSERS = {kind: partial(parse_frames, codec) for kind, codec in FRAME_CODECS.items()}
