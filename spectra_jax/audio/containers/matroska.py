"""Matroska and WebM: whether all elements that the headers state are in the file, before FFmpeg decodes it.

FFmpeg decodes what is left of a file that was cut, and reports nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions
from spectra_jax.audio.containers.tags import TRAILING_BYTES, tag_length
from spectra_jax.audio.source import ByteRange, Source
from spectra_jax.errors import AudioError

# Element ids.
_VOID = 0xEC
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0xA3, 0xA0, 0xA1
# A cluster of unknown length ends where one of these begins.
_IN_SEGMENT = frozenset(
    (_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, _VOID, 0xBF)
)
_IN_CLUSTER = frozenset((0xE7, 0x5854, 0xA7, 0xAB, _BLOCK_GROUP, _SIMPLE_BLOCK, 0xAF, _VOID, 0xBF))
_IN_BLOCK_GROUP = frozenset((_BLOCK, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8))


@dataclass(frozen=True)
class _Element:
    """An element: its id, the position of its content, and the content's bytes; None if the writer left that open."""

    id: int
    content: int
    size: int | None

    def end(self, otherwise: int) -> int:
        """The position at which the element ends; `otherwise` if its size is unknown."""
        return otherwise if self.size is None else self.content + self.size


def parse_matroska(source: Source, start: int) -> EncodedStream:
    """Check a Matroska or WebM file. A few bytes that do not belong to it may follow.

    Raises:
      AudioError: cut within an element, or several files in one.
    """
    ebml = _read_element(source, start)
    position = ebml.end(ebml.content)
    num_segments = num_blocks = 0
    while position < source.size:
        is_trailer = source.size - position <= TRAILING_BYTES or tag_length(source.read(position, 16))
        if num_segments and is_trailer:
            break
        element = _read_element(source, position)
        if element.id == _SEGMENT:
            num_blocks += _count_blocks(source, element)
            num_segments += 1
        elif element.id == _EBML:
            raise _several_files(position)
        elif element.id != _VOID:
            raise AudioError(f"damaged: no Matroska segment begins at byte {position:,}")
        position = element.end(source.size)
    if num_segments == 0 or position > source.size:
        raise _cut_short(source, position)
    return EncodedStream([ByteRange(start, position)], ffmpeg=FFmpegOptions("matroska", min_packets=num_blocks))


def _count_blocks(source: Source, segment: _Element) -> int:
    """The number of blocks in a segment. Raises AudioError: it is damaged or cut short."""
    position, end = segment.content, segment.end(source.size)
    if end > source.size:
        raise _cut_short(source, end)
    num_clusters = num_blocks = 0
    cluster_end: int | None = None
    while position < end:
        element = _read_element(source, position)
        if element.id not in _IN_SEGMENT | _IN_CLUSTER | _IN_BLOCK_GROUP:
            if element.id == _EBML:
                raise _several_files(position)
            raise _no_element(position)
        if element.id == _CLUSTER:
            num_clusters += 1
            cluster_end = None if element.size is None else element.content + element.size
            # Its elements are read in the same loop as its neighbours, the first of which ends one of unknown length.
            position = element.content
            continue
        if element.size is None:
            raise AudioError(f"damaged: the Matroska element at byte {position:,} states no length")
        if element.id in (_SIMPLE_BLOCK, _BLOCK):
            num_blocks += 1
        position = element.content if element.id == _BLOCK_GROUP else element.content + element.size
        if cluster_end is not None and element.id in _IN_CLUSTER and element.content <= cluster_end < position:
            raise AudioError(f"damaged: the Matroska element that ends at byte {position:,} is longer than its cluster")
    if position > end:
        raise AudioError(f"cut short: its last element ends {position - end:,} bytes behind the file's end")
    if not num_clusters:
        raise AudioError("cut short: a Matroska file without samples (no cluster)")
    return num_blocks


def _read_element(source: Source, position: int) -> _Element:
    """The element at `position`. The first bits of an id and of a size state their own length, as in UTF-8."""
    head = source.read(position, 12)
    id_bytes = 9 - head[0].bit_length() if head else 0
    if not 1 <= id_bytes <= 4 or len(head) <= id_bytes:
        raise _no_element(position, "damaged or cut short")
    size_bytes = 9 - head[id_bytes].bit_length()
    if size_bytes > 8 or len(head) < id_bytes + size_bytes:
        raise _no_element(position, "damaged or cut short")
    # All bits set mean that the size is unknown.
    mask = (1 << 7 * size_bytes) - 1
    size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & mask
    return _Element(
        int.from_bytes(head[:id_bytes], "big"), position + id_bytes + size_bytes, None if size == mask else size
    )


def _no_element(position: int, problem: str = "damaged") -> AudioError:
    return AudioError(f"{problem}: no Matroska element begins at byte {position:,}")


def _several_files(position: int) -> AudioError:
    return AudioError(f"several files in one: another Matroska file begins at byte {position:,}")


def _cut_short(source: Source, end: int) -> AudioError:
    return AudioError(f"cut short: {source.size:,} of the {end:,} bytes that its header states")
