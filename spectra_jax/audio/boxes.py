"""MP4, Matroska, ASF and WavPack: whether all that their headers state is in the file, before FFmpeg decodes it.

FFmpeg reads on where such a file was cut, and returns what there is.
"""

from __future__ import annotations

from collections.abc import Iterator

from spectra_jax.audio.errors import AudioError
from spectra_jax.audio.frames import tag_bytes
from spectra_jax.audio.source import Source

_TOP_LEVEL = frozenset(
    b"ftyp moov mdat free skip wide pnot moof mfra sidx styp uuid meta emsg ssix prft udta PICT pdin junk imda".split()
)
_PARENTS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))
# Sample entries of encrypted audio and video.
_ENCRYPTED = frozenset((b"enca", b"drms"))

_EBML_VOID = 0xEC
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
# Elements of a segment: one of these ends a cluster of unknown length.
_IN_SEGMENT = frozenset(
    (_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, _EBML_VOID, 0xBF)
)
_IN_CLUSTER = frozenset((0xE7, 0x5854, 0xA7, 0xAB, 0xA0, 0xA3, 0xAF, _EBML_VOID, 0xBF))

_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def check_mp4(source: Source, start: int) -> None:
    """Raises AudioError: MP4 or QuickTime without its index, cut within a box, or encrypted."""
    names = []
    for name, content, end in _mp4_boxes(source, start, source.size):
        names.append(name)
        if end > source.size:
            raise AudioError(
                f"cut short: its last box ({name.decode('ascii', 'replace')}) has {source.size - content:,} of its "
                f"{end - content:,} bytes"
            )
        if name == b"moov":
            _check_encryption(source, content, end)
    if b"moov" not in names:
        raise AudioError("cut short: an MP4 without its index (moov), which recorders write last")
    if b"mdat" not in names:
        raise AudioError("cut short: an MP4 without samples (mdat)")
    if names[-1] == b"moof":
        raise AudioError("cut short: its last fragment has no samples (mdat)")


def _mp4_boxes(source: Source, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and end of each box."""
    top = stop == source.size
    while start + 8 <= stop:
        size, name, content = source.integer(start, 4), source.read(start + 4, 4), start + 8
        if size == 1:
            size, content = source.integer(start + 8, 8), start + 16
        elif size == 0:
            size = stop - start
        if size < content - start:
            raise AudioError(f"damaged: the MP4 box at byte {start:,} is shorter than its header")
        if top and name not in _TOP_LEVEL:
            if tag_bytes(source.read(start, 16)) or not source.read(start, stop - start).strip(b"\0"):
                return
            if start + size > stop:
                raise AudioError(f"damaged or cut short: byte {start:,} begins no MP4 box")
        yield name, content, start + size
        start += size
    if top and start < stop and source.read(start, 8).strip(b"\0\r\n "):
        raise AudioError(f"cut short: its last box has {stop - start} bytes of its header")


def _check_encryption(source: Source, start: int, end: int) -> None:
    for name, content, stop in _mp4_boxes(source, start, min(end, source.size - 1)):
        if name in _PARENTS:
            _check_encryption(source, content, stop)
        elif name == b"stsd" and source.read(content + 12, 4) in _ENCRYPTED:
            raise AudioError("encrypted (DRM): only the player it was bought for decodes it")


def check_matroska(source: Source, start: int) -> None:
    """Raises AudioError: Matroska or WebM that was cut within an element."""
    name, content, size = _element(source, start)  # The EBML header.
    position = content + (size or 0)
    while position < source.size:
        name, content, size = _element(source, position)
        if name == _SEGMENT:
            _check_segment(source, content, source.size if size is None else content + size)
            position = source.size if size is None else content + size
        elif name == _EBML_VOID and size is not None:
            position = content + size
        else:
            return
    if position > source.size:
        raise AudioError(f"cut short: {source.size:,} of the {position:,} bytes that its header states")


def _check_segment(source: Source, position: int, end: int) -> None:
    if end > source.size:
        raise AudioError(f"cut short: {source.size:,} of the {end:,} bytes that its header states")
    clusters = 0
    while position < end:
        name, content, size = _element(source, position)
        if name not in _IN_SEGMENT and name not in _IN_CLUSTER:
            if name == 0x1A45DFA3:
                raise AudioError(f"several files in one: another Matroska file begins at byte {position:,}")
            raise AudioError(f"damaged: byte {position:,} begins no Matroska element")
        clusters += name == _CLUSTER
        # The elements of a cluster of unknown length are walked like its neighbours.
        position = content if size is None else content + size
    if position > end:
        raise AudioError(f"cut short: its last element ends {position - end:,} bytes behind the file's end")
    if not clusters:
        raise AudioError("cut short: a Matroska file without samples (no cluster)")


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


def check_asf(source: Source, start: int) -> None:
    """Raises AudioError: ASF (WMA, WMV) with fewer packets than its header states."""
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
        if held % packet_bytes:
            raise AudioError(f"cut short: its last packet has {held % packet_bytes:,} of its {packet_bytes:,} bytes")
    elif packets * packet_bytes > held or data_end > source.size:
        raise AudioError(f"cut short: {held // packet_bytes:,} of the {packets:,} packets that its header states")


def wavpack_samples(source: Source, start: int) -> int:
    """Samples per channel of a WavPack file, from its blocks.

    Raises:
      AudioError: cut short: within a block, or before as many samples as the first block states.
    """
    position, total, held = start, None, 0
    while position < source.size:
        header = source.read(position, 32)
        if header[:4] != b"wvpk":
            if position > start and (tag_bytes(header) or source.size - position <= 1024):
                break
            raise AudioError(f"damaged: byte {position:,} begins no WavPack block")
        if len(header) < 32:
            raise AudioError("cut short: its last WavPack block is not complete")
        size = int.from_bytes(header[4:8], "little") + 8
        if position + size > source.size:
            raise AudioError(f"cut short: its last WavPack block has {source.size - position:,} of its {size:,} bytes")
        if header[24] | header[25] << 8 and int.from_bytes(header[24:28], "little") & 0x800:
            held += int.from_bytes(header[20:24], "little")
        if total is None:
            total = int.from_bytes(header[12:16], "little")
        position += size
    if total not in (None, 0xFFFF_FFFF) and total is not None and held < total:
        raise AudioError(f"cut short: {held:,} of the {total:,} samples that its header states")
    return held
