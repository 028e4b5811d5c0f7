"""MP4, Matroska, ASF and WavPack: whether all that their headers state is in the file, before FFmpeg decodes it.

FFmpeg reads on where such a file was cut, and returns what there is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from spectra_jax.audio.frames import TRAILING_BYTES, tag_bytes
from spectra_jax.audio.source import Source
from spectra_jax.errors import AudioError

_TOP_LEVEL = frozenset(
    b"ftyp moov mdat free skip wide pnot moof mfra sidx styp uuid meta emsg ssix prft udta PICT pdin junk imda".split()
)
_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"))
# Sample entries of encrypted audio and video.
_ENCRYPTED = frozenset((b"enca", b"drms"))

_EBML_VOID = 0xEC
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
# Elements of a segment: one of these ends a cluster of unknown length.
_IN_SEGMENT = frozenset(
    (_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, _EBML_VOID, 0xBF)
)
_IN_CLUSTER = frozenset((0xE7, 0x5854, 0xA7, 0xAB, 0xA0, 0xA3, 0xAF, _EBML_VOID, 0xBF))
_IN_GROUP = frozenset((0xA1, 0xA2, 0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8))
_SIMPLE_BLOCK, _GROUP, _BLOCK = 0xA3, 0xA0, 0xA1

_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
# The flag of a block that holds the first channels: those of the others follow it.
_WAVPACK_FIRST = 0x800

_ASF_HEADER = re.compile(re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")))
# FFmpeg marks the end of an ASF that it writes to a pipe.
_ASF_END_BYTES = 12
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def check_mp4(source: Source, start: int) -> tuple[int, int]:
    """Where an MP4 or QuickTime file ends, and how many packets its fragments state.

    Raises:
      AudioError: without its index, cut within a box, encrypted, or several files in one.
    """
    file_end = start
    packets = 0
    names: Counter[bytes] = Counter()
    last = b""
    for name, content, end in _mp4_boxes(source, start, source.size, top=True):
        names[name] += 1
        last = name
        file_end = end
        if end > source.size:
            raise AudioError(
                f"cut short: its last box ({name.decode('ascii', 'replace')}) has {source.size - content:,} of its "
                f"{end - content:,} bytes"
            )
        if name in _PARENTS:
            packets += _packets_of_fragments(source, content, end)
    if names[b"moov"] > 1:
        raise AudioError("several files in one: an MP4 with more than one index (moov)")
    if b"moov" not in names:
        raise AudioError("cut short: an MP4 without its index (moov), which recorders write last")
    if b"mdat" not in names:
        raise AudioError("cut short: an MP4 without samples (mdat)")
    if last == b"moof":
        raise AudioError("cut short: its last fragment has no samples (mdat)")
    return file_end, packets


def _mp4_boxes(source: Source, start: int, stop: int, *, top: bool) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and end of each box."""
    seen: set[bytes] = set()
    while start + 8 <= stop:
        size, name, content = source.integer(start, 4), source.read(start + 4, 4), start + 8
        if size == 1:
            size, content = source.integer(start + 8, 8), start + 16
        elif size == 0:
            size = stop - start
        if size < content - start and not (top and name not in _TOP_LEVEL):
            raise AudioError(f"damaged: the MP4 box at byte {start:,} is shorter than its header")
        if top and name not in _TOP_LEVEL:
            rest = source.read(start, stop - start)
            if tag_bytes(rest[:16]) or not rest.strip(b"\0"):
                return
            if len(rest) <= TRAILING_BYTES and {b"moov", b"mdat"} <= seen:
                return
            if start + size > stop or not name.isalnum():
                raise AudioError(f"damaged or cut short: byte {start:,} begins no MP4 box")
        if not top and start + size > stop:
            raise AudioError(f"damaged: the MP4 box at byte {start:,} is longer than the one that it is in")
        yield name, content, start + size
        seen.add(name)
        start += size
    if top and start < stop and source.read(start, 8).strip(b"\0\r\n "):
        raise AudioError(f"cut short: its last box has {stop - start} bytes of its header")


def _packets_of_fragments(source: Source, start: int, end: int) -> int:
    """How many packets the fragments below a box state. Raises AudioError: the samples are encrypted."""
    packets = 0
    for name, content, stop in _mp4_boxes(source, start, end, top=False):
        if name in _PARENTS:
            packets += _packets_of_fragments(source, content, min(stop, end))
        elif name == b"trun":
            packets += source.integer(content + 4, 4)
        elif name == b"stsd" and source.read(content + 12, 4) in _ENCRYPTED:
            raise AudioError("encrypted (DRM): only the player it was bought for decodes it")
    return packets


def check_matroska(source: Source, start: int) -> tuple[int, int]:
    """Where a Matroska or WebM file ends, since few bytes that are none of it may follow, and how many blocks it has.

    Raises:
      AudioError: cut within an element, or several files in one.
    """
    name, content, size = _element(source, start)  # The EBML header.
    position = content + (size or 0)
    segments = 0
    blocks = 0
    while position < source.size:
        if segments and (source.size - position <= TRAILING_BYTES or tag_bytes(source.read(position, 16))):
            return position, blocks
        name, content, size = _element(source, position)
        end = source.size if size is None else content + size
        if name == _SEGMENT:
            blocks += _blocks_of_segment(source, content, end)
            segments += 1
        elif name == _EBML:
            raise AudioError(f"several files in one: another Matroska file begins at byte {position:,}")
        elif name != _EBML_VOID:
            raise AudioError(f"damaged: byte {position:,} begins no Matroska segment")
        position = end
    if segments == 0 or position > source.size:
        raise AudioError(f"cut short: {source.size:,} of the {position:,} bytes that its header states")
    return position, blocks


def _blocks_of_segment(source: Source, position: int, end: int) -> int:
    if end > source.size:
        raise AudioError(f"cut short: {source.size:,} of the {end:,} bytes that its header states")
    clusters = 0
    blocks = 0
    cluster_end: int | None = None
    while position < end:
        name, content, size = _element(source, position)
        if name not in _IN_SEGMENT | _IN_CLUSTER | _IN_GROUP:
            if name == _EBML:
                raise AudioError(f"several files in one: another Matroska file begins at byte {position:,}")
            raise AudioError(f"damaged: byte {position:,} begins no Matroska element")
        if name == _CLUSTER:
            clusters += 1
            cluster_end = None if size is None else content + size
            # Its elements are walked like its neighbours, which is where one of unknown length ends.
            position = content
            continue
        if size is None:
            raise AudioError(f"damaged: the Matroska element at byte {position:,} states no length")
        if name in (_SIMPLE_BLOCK, _BLOCK):
            blocks += 1
        position = content if name == _GROUP else content + size
        if cluster_end is not None and name in _IN_CLUSTER and content <= cluster_end < position:
            raise AudioError(f"damaged: the Matroska element that ends at byte {position:,} is longer than its cluster")
    if position > end:
        raise AudioError(f"cut short: its last element ends {position - end:,} bytes behind the file's end")
    if not clusters:
        raise AudioError("cut short: a Matroska file without samples (no cluster)")
    return blocks


def _element(source: Source, position: int) -> tuple[int, int, int | None]:
    """The name, the start of the content and its length, which is None where the writer did not know it."""
    head = source.read(position, 12)
    name_bytes = 9 - head[0].bit_length() if head else 0
    if not 1 <= name_bytes <= 4 or len(head) <= name_bytes:
        raise AudioError(f"damaged or cut short: byte {position:,} begins no Matroska element")
    size_bytes = 9 - head[name_bytes].bit_length()
    if size_bytes > 8 or len(head) < name_bytes + size_bytes:
        raise AudioError(f"damaged or cut short: byte {position:,} begins no Matroska element")
    mask = (1 << 7 * size_bytes) - 1
    size = int.from_bytes(head[name_bytes : name_bytes + size_bytes], "big") & mask
    return (
        int.from_bytes(head[:name_bytes], "big"),
        position + name_bytes + size_bytes,
        None if size == mask else size,
    )


def check_asf(source: Source, start: int) -> tuple[int, bool]:
    """Where an ASF file (WMA, WMV) ends, and whether it was streamed: its header then states no length.

    Raises:
      AudioError: fewer packets than its header states, or several files in one.
    """
    header_end = start + source.integer(start + 16, 8, "little")
    packets = packet_bytes = 0
    streamed = False
    position = start + 30
    while position + 24 <= min(header_end, source.size):
        size = source.integer(position + 16, 8, "little")
        if source.read(position, 16) == _ASF_FILE:
            packets = source.integer(position + 56, 8, "little")
            streamed = bool(source.integer(position + 88, 4, "little") & 1)
            packet_bytes = source.integer(position + 92, 4, "little")
        if size < 24:
            raise AudioError("damaged: an object of its ASF header is shorter than its own header")
        position += size
    if header_end > source.size or source.read(header_end, 16) != _ASF_DATA:
        raise AudioError("cut short or damaged: an ASF file without samples")
    if packet_bytes == 0:
        raise AudioError("damaged: its ASF header does not state the length of its packets")
    data_end = header_end + source.integer(header_end + 16, 8, "little")
    held = source.size - header_end - 50
    if streamed and (packets == 0 or data_end <= header_end + 50):
        if held % packet_bytes == _ASF_END_BYTES and source.read(source.size - _ASF_END_BYTES, 2) == b"$E":
            return source.size - _ASF_END_BYTES, True
        if held % packet_bytes:
            raise AudioError(f"cut short: its last packet has {held % packet_bytes:,} of its {packet_bytes:,} bytes")
    elif packets * packet_bytes > held or data_end > source.size:
        raise AudioError(f"cut short: {held // packet_bytes:,} of the {packets:,} packets that its header states")
    elif (second := source.find(_ASF_HEADER, data_end)) >= 0:
        raise AudioError(f"several files in one: another ASF file begins at byte {second:,}")
    return source.size, streamed


def wavpack(source: Source, start: int) -> tuple[int, int]:
    """Where a WavPack file ends, and how many samples per channel its blocks hold.

    Raises:
      AudioError: cut short: within a block, or before as many samples as the first block states.
    """
    position, end, held, stated = start, start, 0, 0xFFFF_FFFF
    while position < source.size:
        header = source.read(position, 32)
        if header[:4] != b"wvpk":
            tag = tag_bytes(header)
            if not tag and (end == start or source.size - position > TRAILING_BYTES):
                raise AudioError(f"damaged: byte {position:,} begins no WavPack block")
            position += tag or TRAILING_BYTES
            continue
        size = int.from_bytes(header[4:8], "little") + 8
        if len(header) < 32 or position + size > source.size:
            raise AudioError(f"cut short: its last WavPack block has {source.size - position:,} of its {size:,} bytes")
        total, index, number, flags = (int.from_bytes(header[k : k + 4], "little") for k in (12, 16, 20, 24))
        if number and index < held and flags & _WAVPACK_FIRST:
            raise AudioError(f"several files in one: another WavPack file begins at byte {position:,}")
        stated = total if position == start else stated
        held += number if flags & _WAVPACK_FIRST else 0
        position = end = position + size
    if stated != 0xFFFF_FFFF and held < stated:
        raise AudioError(f"cut short: {held:,} of the {stated:,} samples that its header states")
    return end, held
