"""MP4 and QuickTime: whether all boxes (atoms) that the headers state are in the file, before FFmpeg decodes it.

FFmpeg decodes what is left of a file that was cut, and reports nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions
from spectra_jax.audio.containers.tags import TRAILING_BYTES, tag_length
from spectra_jax.audio.source import ByteRange, Source
from spectra_jax.errors import AudioError

_TOP_LEVEL = frozenset(
    b"ftyp moov mdat free skip wide pnot moof mfra sidx styp uuid meta emsg ssix prft udta PICT pdin junk imda".split()
)
_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"))
# Sample entries of encrypted audio and video.
_ENCRYPTED = frozenset((b"enca", b"drms"))


@dataclass(frozen=True)
class _Box:
    """A box: its name, the position of its content, and the position at which it ends by its header."""

    name: bytes
    content: int
    end: int


def parse_mp4(source: Source, start: int) -> EncodedStream:
    """Check an MP4 or QuickTime file.

    Raises:
      AudioError: without its index, cut within a box, encrypted, or several files in one.
    """
    end = start
    num_packets = 0
    names: Counter[bytes] = Counter()
    last = b""
    for box in _top_level_boxes(source, start):
        names[box.name] += 1
        last, end = box.name, box.end
        if box.end > source.size:
            raise AudioError(
                f"cut short: its last box ({box.name.decode('ascii', 'replace')}) has "
                f"{source.size - box.content:,} of its {box.end - box.content:,} bytes"
            )
        if box.name in _PARENTS:
            num_packets += _count_fragment_packets(source, box)
    if names[b"moov"] > 1:
        raise AudioError("several files in one: an MP4 with more than one index (moov)")
    if b"moov" not in names:
        raise AudioError("cut short: an MP4 without its index (moov), which recorders write last")
    if b"mdat" not in names:
        raise AudioError("cut short: an MP4 without samples (mdat)")
    if last == b"moof":
        raise AudioError("cut short: its last fragment has no samples (mdat)")
    return EncodedStream([ByteRange(start, end)], ffmpeg=FFmpegOptions("mov", min_packets=num_packets))


def _read_box(source: Source, start: int, stop: int) -> _Box:
    size, name, content = source.integer(start, 4), source.read(start + 4, 4), start + 8
    if size == 1:
        size, content = source.integer(start + 8, 8), start + 16
    elif size == 0:
        size = stop - start
    return _Box(name, content, start + size)


def _top_level_boxes(source: Source, start: int) -> Iterator[_Box]:
    """The boxes of a file. Tags, padding or, behind a complete file, a few other bytes may follow them."""
    seen: set[bytes] = set()
    while start + 8 <= source.size:
        box = _read_box(source, start, source.size)
        if box.name not in _TOP_LEVEL:
            rest = source.read(start, source.size - start)
            if tag_length(rest[:16]) or not rest.strip(b"\0"):
                return
            if len(rest) <= TRAILING_BYTES and {b"moov", b"mdat"} <= seen:
                return
            if box.end > source.size or not box.name.isalnum():
                raise AudioError(f"damaged or cut short: no MP4 box begins at byte {start:,}")
        if box.end < box.content:
            raise _too_short(start)
        yield box
        seen.add(box.name)
        start = box.end
    if start < source.size and source.read(start, 8).strip(b"\0\r\n "):
        raise AudioError(f"cut short: its last box has {source.size - start} bytes of its header")


def _child_boxes(source: Source, start: int, stop: int) -> Iterator[_Box]:
    while start + 8 <= stop:
        box = _read_box(source, start, stop)
        if box.end < box.content:
            raise _too_short(start)
        if box.end > stop:
            raise AudioError(f"damaged: the MP4 box at byte {start:,} is longer than the one that contains it")
        yield box
        start = box.end


def _too_short(start: int) -> AudioError:
    return AudioError(f"damaged: the MP4 box at byte {start:,} is shorter than its header")


def _count_fragment_packets(source: Source, parent: _Box) -> int:
    """How many packets the fragments below a box state. Raises AudioError: the samples are encrypted."""
    num_packets = 0
    for box in _child_boxes(source, parent.content, parent.end):
        if box.name in _PARENTS:
            num_packets += _count_fragment_packets(source, box)
        elif box.name == b"trun":
            num_packets += source.integer(box.content + 4, 4)
        elif box.name == b"stsd" and source.read(box.content + 12, 4) in _ENCRYPTED:
            raise AudioError("encrypted (DRM): only the player that it was bought for decodes it")
    return num_packets
