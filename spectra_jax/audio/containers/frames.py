"""Streams of frames without a container around them: each frame's header states the frame's length.

The file is read from frame to frame before anything is decoded, so that bytes between frames and an incomplete last
frame are found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from spectra_jax.audio.containers.tags import end_without_tags, lyrics3_length, tag_length
from spectra_jax.audio.source import Source
from spectra_jax.errors import AudioError

SEARCH_BYTES = 65536
"""How much of a file is searched for a frame, or for the end of padding, at once."""
MAX_PARTIAL_BYTES = 2048
"""The longest frame: a recording of a broadcast may begin with the rest of one."""
PADDING = b"\0\t\r\n "
"""Bytes that may separate joined streams, or follow the last frame."""
ENOUGH_FRAMES = 5
"""Frames in a row that identify a format; fewer could be coincidence."""
# From this length on, a run of one byte value is padding, and not the start of a frame.
_FILL_BYTES = 16
_CONTROL_CHARACTER = re.compile(r"[^\t\r\n -~\x80-\U0010ffff]")

FrameLength = Callable[[bytes], int]
"""From the first 16 bytes (or fewer) to the length in bytes of the frame that begins with them; 0 if none does."""


def find_frames(source: Source, start: int, frame_length: FrameLength, search_bytes: int = 0) -> int | None:
    """The position from `start` on at which frames follow one another up to the file's end, or five of them.

    Leading zeros are skipped. So are, with `search_bytes`, as many bytes of an incomplete frame.
    """
    head = source.read(start, SEARCH_BYTES)
    first = start + len(head) - len(head.lstrip(b"\0"))
    if count_frames(source, first, frame_length):
        return first
    if frame_length(source.read(first, 16)):
        return None  # A frame without a second one: damaged, if it is a frame at all.
    for position in range(first + 1, min(first + search_bytes, source.size)):
        if count_frames(source, position, frame_length) == ENOUGH_FRAMES:
            return position
    return None


def count_frames(source: Source, position: int, frame_length: FrameLength) -> int:
    """How many frames follow one another from `position` on, at most five; 0 if damage follows them."""
    for number in range(ENOUGH_FRAMES):
        header = source.read(position, 16)
        length = frame_length(header)
        if length == 0:
            # Frames end at a tag or at the end of the file. Otherwise these bytes only looked like frames.
            return number if number and (tag_length(header) or _is_trailing(source, position, source.size)) else 0
        position += length
        if number == 0 and position > source.size:
            return 0
    return ENOUGH_FRAMES


def iter_frames(
    source: Source,
    start: int,
    frame_length: FrameLength,
    codec: str,
    skip_unknown: Callable[[Source, int], int] | None = None,
) -> Iterator[tuple[int, int]]:
    """Start and end of every frame from `start` to the end of the file, without the tags between them.

    Args:
      source: the file.
      start: the position of the first frame.
      frame_length: see `FrameLength`.
      codec: what messages call it.
      skip_unknown: called with the position of bytes that are neither a frame nor a tag, returns the position behind
        them; the same position if they may be damaged frames.

    Raises:
      AudioError: the last frame is incomplete, or something that is neither a frame nor a tag is between frames.
    """
    position = start
    tags_start = end_without_tags(source)
    while position < source.size:
        header = source.read(position, 16)
        length = frame_length(header)
        end = tags_start if position < tags_start else source.size
        if position + length > end:
            available = end - position
            raise AudioError(f"cut short: its last {codec} frame has {available:,} of its {length:,} bytes")
        if length:
            yield position, position + length
            position += length
        elif tag := tag_length(header) or lyrics3_length(source, position):
            position += tag
        elif position == tags_start or _is_trailing(source, position, end):
            return
        elif skip_unknown and (behind := skip_unknown(source, position)) > position:
            position = behind
        else:
            raise AudioError(f"damaged: no {codec} frame begins at byte {position:,}")


def _is_trailing(source: Source, position: int, end: int) -> bool:
    """Whether the bytes from `position` to `end` may be left out: padding, lyrics or text, but not damaged frames."""
    rest = source.read(position, min(end - position, SEARCH_BYTES))
    if rest.startswith(b"LYRICSBEGIN"):
        return True
    is_fill = len(rest) >= _FILL_BYTES and len(set(rest)) == 1
    return position + len(rest) == end and (is_fill or _is_text(rest.strip(PADDING)))


def _is_text(content: bytes) -> bool:
    try:
        return not _CONTROL_CHARACTER.search(content.decode())
    except UnicodeDecodeError:
        return False
