"""Files of chunks, or with a header that states a length: WAV, AIFF, CAF, AU, VOC, SPHERE and their kin.

What the header states is held against what the file holds, before anything is decoded. Where a writer could not know
the length, because it wrote to a pipe, the header is replaced by one that states what there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from spectra_jax.audio.frames import TRAILING_BYTES, tag_bytes
from spectra_jax.audio.samples import MAX_CHANNELS
from spectra_jax.audio.source import Piece, Source
from spectra_jax.errors import AudioError

# What writers leave in a field of 32 bits for a length that they do not know. A recording that was cut short states a
# length of its own, which is none of these.
_PLACEHOLDERS = (
    0,  # Python's wave module, GStreamer 1.0 and servers that never come back to their header
    0xFFFF_FFFF,  # FFmpeg and most speech servers
    0x7FFF_FFFF,  # SoX of old, arecord, and most that count in signed integers
    0x8000_0000,  # arecord of old
    0x7FFF_F000,  # SoX, eSpeak, MPlayer
    0x7FFF_0000,  # GStreamer's wavenc
    0x7F00_0008,  # SoX in AIFF: the samples and the eight bytes before them
    0x7F00_0000,
    2_000_000_000,
    1_000_000_000,
)
# Others leave the largest number of 32 bits, signed or not, less what rounds it to a block, a page or a buffer.
_HIGHEST_BITS = (0xFFFF, 0x7FFF)
# What libsndfile decodes. GSM 6.10 (0x31) is not among them: it decodes the byte of padding too.
_LIBSNDFILE_TAGS = {1, 2, 3, 6, 7, 0x11, 0x38, 0x40}
# A FLAC's mark, and the header of the block that comes first in each.
_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_WAV_START = re.compile(rb"(?s)(RIFF|RIFX|RF64|BW64).{4}WAVE")
# Of chunks behind the samples: Adobe writes "_PMX", AIFF has "(c) ".
_CHUNK_NAME = re.compile(rb"[A-Za-z0-9_() ]{4}")
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# The same with the fields of an Ambisonic WAV, which libsndfile knows too.
_AMBISONIC_TAIL = bytes.fromhex("00002107d3118644c8c1ca000000")


@dataclass(frozen=True)
class Chunk:
    """Attributes: its name, where its content is, and the length its header states."""

    name: bytes
    start: int
    size: int


def chunks(source: Source, start: int, order: str, *, id_bytes: int = 4, size_bytes: int = 4) -> Iterator[Chunk]:
    """The chunks from `start` on, as far as they are chunks; the last may state more than the file holds."""
    header_bytes = id_bytes + size_bytes
    # Padding is counted from the start of the recording, which a tag of an odd length may precede.
    first = start
    while start + header_bytes <= source.size:
        name = source.read(start, id_bytes)
        size = source.integer(start + id_bytes, size_bytes, order)
        if (id_bytes == 4 and not name.isascii()) or not name[:4].strip(b"\0"):
            return
        # W64 counts the header of a chunk, and pads to eight bytes.
        content = size - header_bytes if id_bytes == 16 else size
        if content < 0:
            return
        yield Chunk(name, start + header_bytes, content)
        end = start + header_bytes + content
        start = end + ((first - end) % 8 if id_bytes == 16 else (end - first) % 2 if size_bytes == 4 else 0)


def is_placeholder(size: int, whole: int, offset: int, block: int, held: int) -> bool:
    """Whether a length is what a writer leaves that does not know it.

    Args:
      size: of the samples, as the header states it.
      whole: of the file, as the header states it: some writers put the placeholder there, and subtract.
      offset: of the samples in the file.
      block: bytes of a sample of all channels: some writers round down to it.
      held: bytes of samples that there are. Recorders split at 2 or 4 GB: a file of such a size may have been cut.
    """
    if size in _PLACEHOLDERS or (size >> 16 in _HIGHEST_BITS and held < size // 8):
        return True
    for placeholder in _PLACEHOLDERS[1:]:
        if size in (placeholder - placeholder % max(block, 1), placeholder - offset, placeholder - offset + 8):
            return True
        if whole in (placeholder, placeholder - 8) and size == whole + 8 - offset:
            return True
    return False


def check_trailer(source: Source, end: int, stated: int) -> None:
    """Refuse what follows the recording where it may be more of it.

    Raises:
      AudioError: another recording follows, or more bytes than a tag or padding has.
    """
    position = end
    while tag := tag_bytes(source.read(position, 16)):
        position += tag
    rest = source.read(position, TRAILING_BYTES + 1)
    begin = rest.lstrip(b"\0")
    if begin.startswith((b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"fLaC", b".snd", b"caff")):
        position += len(rest) - len(begin)
        raise AudioError(f"several files in one: another recording begins at byte {position:,}; cut the file there")
    if len(rest) > TRAILING_BYTES and rest.strip(b"\0 \r\n"):
        raise AudioError(
            f"its header states {stated:,} bytes of samples, but {source.size - position:,} bytes follow them that are "
            "neither a tag nor padding: more of the recording, which it does not state, or damage"
        )


@dataclass(frozen=True)
class Plan:
    """What to give a decoder, and which one that is.

    Attributes:
      pieces: of the file.
      container: FFmpeg's name of it, where FFmpeg may have to decode it.
      by_libsndfile: whether libsndfile decodes it, if it knows the codec.
      codec: what messages call the codec.
    """

    pieces: list[Piece]
    container: str | None = None
    by_libsndfile: bool = True
    codec: str = ""


def wav(source: Source, start: int) -> Plan:
    """WAV, in its little-endian, big-endian (RIFX) and 64-bit (RF64, BW64) kinds.

    Raises:
      AudioError: cut short, several files in one, several pieces of samples, or without samples.
    """
    magic = source.read(start, 4)
    order = "big" if magic == b"RIFX" else "little"
    whole = source.integer(start + 4, 4, order)
    block = 0
    tag = 0
    sizes64: Chunk | None = None
    data: Chunk | None = None
    for chunk in chunks(source, start + 12, order):
        if chunk.name == b"fmt ":
            tag = _format_tag(source, chunk, order)
            block = max(source.integer(chunk.start + 12, 2, order), 1)
            channels, rate = source.integer(chunk.start + 2, 2, order), source.integer(chunk.start + 4, 4, order)
            if not 1 <= channels <= MAX_CHANNELS or rate == 0:
                raise AudioError(f"damaged or no audio: its header states {channels:,} channels at {rate:,} Hz")
        elif chunk.name == b"ds64":
            sizes64 = chunk
        elif chunk.name == b"LIST" and source.read(chunk.start, 4) == b"wavl":
            raise AudioError("a WAV of several pieces of samples (wavl), which no decoder here reads whole")
        elif chunk.name == b"data":
            data = chunk
            break
    if data is None:
        raise AudioError("cut short or damaged: a WAV without samples (no data chunk)")
    if not block:
        raise AudioError("damaged: a WAV whose fmt chunk, which describes its samples, is missing or empty")
    size = data.size
    field = (data.start - 4, 4)
    if sizes64 and (magic in (b"RF64", b"BW64")) and size == 0xFFFF_FFFF:
        size = source.integer(sizes64.start + 8, 8, order)
        field = (sizes64.start + 8, 8)
        whole = source.integer(sizes64.start, 8, order)
    by_libsndfile = tag in _LIBSNDFILE_TAGS
    codec = f"WAV codec 0x{tag:04X}"
    held = source.size - data.start
    if _is_streamed(source, data, size, whole, start, block, order):
        _check_streamed(source, data.start, held, block)
        fields = [(start + 4, 4, source.size - start - 8), (*field, held)]
        if field[1] == 8:
            fields[0] = (sizes64.start if sizes64 else 0, 8, source.size - start - 8)
        return Plan(
            _named_rf64(magic, _patched(source, start, source.size, fields, order)), "wav", by_libsndfile, codec
        )
    if size == source.size - start and whole + 8 == source.size - start:
        size = held  # A writer that counted its header as samples.
    if size > held:
        raise AudioError(f"cut short: {held:,} of the {size:,} bytes of samples that its header states")
    _check_rest(source, start, data.start + size, size, order, start + 8 + whole)
    pieces: list[Piece] = [(start, source.size)]
    if not by_libsndfile and size % block == 1 and field[1] == 4:
        # SoX counts the byte of padding, of which FFmpeg makes a block.
        pieces = _patched(source, start, source.size, [(*field, size - 1)], order)
    return Plan(_named_rf64(magic, pieces), "wav", by_libsndfile, codec)


def _named_rf64(magic: bytes, pieces: list[Piece]) -> list[Piece]:
    """BW64 is RF64 by another name, which libsndfile does not know."""
    first = pieces[0]
    if magic != b"BW64" or isinstance(first, bytes):
        return pieces
    return [b"RF64", (first[0] + 4, first[1]), *pieces[1:]]


def _format_tag(source: Source, chunk: Chunk, order: str) -> int:
    tag = source.integer(chunk.start, 2, order)
    if tag != 0xFFFE:
        return tag
    subformat = source.read(chunk.start + 24, 16)
    if subformat[2:] in (_SUBFORMAT_TAIL, _AMBISONIC_TAIL):
        return int.from_bytes(subformat[:2], "little")
    return tag


def _is_streamed(source: Source, data: Chunk, size: int, whole: int, start: int, block: int, order: str) -> bool:
    held = source.size - data.start
    if held == 0 or size >= 1 << 63:
        return held > 0
    if size == 0:
        # An empty recording with chunks after it, or a length that nobody filled in.
        end = data.start
        for chunk in chunks(source, data.start, order):
            end = chunk.start + chunk.size
        return not data.start < end <= source.size + 1
    return size > held and is_placeholder(size, whole, data.start - start, block, held)


def _check_streamed(source: Source, start: int, held: int, block: int) -> None:
    if held % block:
        raise AudioError(f"cut short: its last sample has {held % block} of its {block} bytes")
    if (second := source.find(_WAV_START, start)) >= 0:
        raise AudioError(f"several files in one: another recording begins at byte {second:,}; cut the file there")


def _check_rest(source: Source, start: int, end: int, size: int, order: str, whole_end: int) -> None:
    """Chunks may follow the samples, to where the header has the file end, then a trailer; more samples may not."""
    rest = _next_chunk(source, start, end, order)
    while _CHUNK_NAME.fullmatch(name := source.read(rest, 4)) and rest + 8 <= source.size:
        if name in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM"):
            break
        if name == b"data":
            raise AudioError("a WAV of several pieces of samples (data chunks), of which decoders read the first alone")
        chunk_bytes = source.integer(rest + 4, 4, order)
        if rest + 8 + chunk_bytes > source.size:
            if chunk_bytes > 1 << 24:
                break
            return  # Cut, but behind the samples.
        rest = _next_chunk(source, start, rest + 8 + chunk_bytes, order)
    if rest + 8 < whole_end <= source.size + 1 and source.read(rest, whole_end - rest).strip(b"\0"):
        raise AudioError(
            f"its header states {size:,} bytes of samples, and {whole_end - rest:,} after them that are no chunk: "
            "more of the recording, or damage"
        )
    check_trailer(source, rest, size)


def _next_chunk(source: Source, start: int, end: int, order: str) -> int:
    """Where the chunk behind one that ends at `end` begins: some writers forget the byte of padding."""
    padding = (end - start) & 1
    unpadded = padding and _CHUNK_NAME.fullmatch(source.read(end, 4))
    if unpadded and end + 8 + source.integer(end + 4, 4, order) <= source.size:
        return end
    return end + padding


def _patched(source: Source, start: int, end: int, fields: list[tuple[int, int, int]], order: str) -> list[Piece]:
    """The bytes from `start` to `end`, with these fields (position, length, value) replaced."""
    pieces: list[Piece] = []
    for position, length, value in sorted(fields):
        pieces.append((start, position))
        pieces.append((min(value, 256**length - 1)).to_bytes(length, "big" if order == "big" else "little"))
        start = position + length
    return [*pieces, (start, end)]


def wave64(source: Source, start: int) -> Plan:
    """Sony's Wave64: RIFF with 64-bit lengths and names of 16 bytes."""
    whole = source.integer(start + 16, 8, "little")
    block = 0
    for chunk in chunks(source, start + 40, "little", id_bytes=16, size_bytes=8):
        if chunk.name[:4] == b"fmt ":
            block = source.integer(chunk.start + 12, 2, "little")
        if chunk.name[:4] != b"data":
            continue
        held = source.size - chunk.start
        if chunk.size >= 1 << 62 or (chunk.size == 0 and held):
            _check_streamed(source, chunk.start, held, max(block, 1))
            fields = [(start + 16, 8, source.size - start), (chunk.start - 8, 8, held + 24)]
            return Plan(_patched(source, start, source.size, fields, "little"), "w64")
        if chunk.size > held:
            raise AudioError(f"cut short: {held:,} of the {chunk.size:,} bytes of samples that its header states")
        end = chunk.start + chunk.size
        check_trailer(source, max(min(start + whole, source.size), end), chunk.size)
        # libsndfile takes what follows for samples, the padding to eight bytes too.
        return Plan([(start, end)], "w64")
    raise AudioError("cut short or damaged: a W64 without samples (no data chunk)")


def aiff(source: Source, start: int) -> Plan:
    """AIFF and AIFF-C."""
    whole = source.integer(start + 4, 4)
    common: Chunk | None = None
    block = 0
    for chunk in chunks(source, start + 12, "big"):
        if chunk.name == b"COMM":
            common = chunk
            channels, bits = source.integer(chunk.start, 2), source.integer(chunk.start + 6, 2)
            kind = source.read(chunk.start + 18, 4) if source.read(start + 8, 4) == b"AIFC" else b"NONE"
            widths = {b"NONE": bits, b"twos": bits, b"sowt": bits, b"in24": 24, b"in32": 32, b"fl32": 32, b"FL32": 32}
            widths |= {b"fl64": 64, b"FL64": 64, b"ulaw": 8, b"alaw": 8, b"ULAW": 8, b"ALAW": 8, b"raw ": 8}
            block = channels * -(-widths.get(kind, 0) // 8)
        elif chunk.name == b"SSND":
            held = source.size - chunk.start
            streamed = held > 8 and (chunk.size in (0, 8) or chunk.size > held)
            streamed = streamed and is_placeholder(chunk.size, whole, chunk.start - start, max(block, 1), held)
            if chunk.size == 8 and held > 8 and _is_streamed(source, Chunk(b"", chunk.start + 8, 0), 0, 0, 0, 1, "big"):
                streamed = True
            if streamed and common and block:
                _check_streamed(source, chunk.start + 8, held - 8, block)
                fields = [(start + 4, 4, source.size - start - 8), (chunk.start - 4, 4, held)]
                fields.append((common.start + 2, 4, (held - 8) // block))
                return Plan(_patched(source, start, source.size, fields, "big"), "aiff")
            if chunk.size > held:
                raise AudioError(f"cut short: {held:,} of the {chunk.size:,} bytes of samples that its header states")
            if common and block and source.integer(common.start + 2, 4) * block > chunk.size - 8:
                raise AudioError(
                    f"damaged: {chunk.size - 8:,} bytes of samples, where its header states "
                    f"{source.integer(common.start + 2, 4):,} samples of {block} bytes"
                )
            _check_rest(source, start, chunk.start + chunk.size, chunk.size, "big", start + 8 + whole)
            return Plan([(start, source.size)], "aiff")
    raise AudioError("cut short or damaged: an AIFF without samples (no SSND chunk)")


def svx(source: Source, start: int) -> Plan:
    """Amiga IFF: 8SVX and 16SV."""
    for chunk in chunks(source, start + 12, "big"):
        if chunk.name == b"BODY":
            held = source.size - chunk.start
            if chunk.size > held:
                raise AudioError(f"cut short: {held:,} of the {chunk.size:,} bytes of samples that its header states")
            whole_end = start + 8 + source.integer(start + 4, 4)
            _check_rest(source, start, chunk.start + chunk.size, chunk.size, "big", whole_end)
            return Plan([(start, chunk.start + chunk.size)])
    raise AudioError("cut short or damaged: an IFF without samples (no BODY chunk)")


def caf(source: Source, start: int) -> Plan:
    """Apple's Core Audio Format."""
    found = None
    block = 1
    for chunk in chunks(source, start + 8, "big", size_bytes=8):
        if chunk.name == b"desc":
            # 0 where packets differ in length.
            block = max(source.integer(chunk.start + 16, 4), 1)
        if chunk.name == b"data":
            found = chunk
            if chunk.size >= 1 << 63:  # -1: up to the end of the file, which libsndfile does not know.
                held = source.size - chunk.start
                _check_streamed(source, chunk.start + 4, held - 4, block)
                return Plan(_patched(source, start, source.size, [(chunk.start - 8, 8, held)], "big"), "caf")
        if chunk.start + chunk.size > source.size:
            held = source.size - chunk.start
            what = "samples" if chunk.name == b"data" else f"its chunk {chunk.name.decode('ascii', 'replace')!r}"
            raise AudioError(f"cut short: {held:,} of the {chunk.size:,} bytes of {what} that its header states")
        end = chunk.start + chunk.size
    if found is None:
        raise AudioError("cut short or damaged: a CAF without samples (no data chunk)")
    check_trailer(source, end, found.size)
    return Plan([(start, source.size)], "caf")


def au(source: Source, start: int) -> Plan:
    """Sun's and NeXT's AU, also in its little-endian kind."""
    order = "big" if source.read(start, 4) == b".snd" else "little"
    offset, size, encoding = (source.integer(start + k, 4, order) for k in (4, 8, 12))
    held = source.size - start - offset
    if held < 0:
        raise AudioError("cut short: it ends within its header")
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding, 0) * source.integer(start + 20, 4, order)
    if size == 0xFFFF_FFFF or (held and (size == 0 or (size > held and is_placeholder(size, 0, offset, width, held)))):
        if width and held % width:
            raise AudioError(f"cut short: its last sample has {held % width} of its {width} bytes")
        return Plan(_patched(source, start, source.size, [(start + 8, 4, held)], order), "au")
    if size > held:
        raise AudioError(f"cut short: {held:,} of the {size:,} bytes of samples that its header states")
    check_trailer(source, start + offset + size, size)
    return Plan([(start, source.size)], "au")


def sphere(source: Source, start: int) -> Plan:
    """NIST SPHERE, as TIMIT and the telephone corpora have it."""
    head = source.read(start, 4096)
    length = re.match(rb"NIST_1A\s+(\d+)\s", head)
    if not length:
        raise AudioError("damaged: a NIST SPHERE file that does not state the length of its header")
    header = source.read(start, min(int(length[1]), 1 << 20))
    fields = dict(re.findall(rb"^(\w+) -(?:i|s\d+) (.*?)\s*$", header, re.MULTILINE))
    coding = fields.get(b"sample_coding", b"pcm").decode("ascii", "replace")
    if "shorten" in coding or "," in coding:
        raise AudioError(f"NIST SPHERE samples compressed as {coding}: decompress it with sph2pipe")
    try:
        stated = int(fields[b"sample_count"]) * int(fields.get(b"channel_count", b"1"))
        stated *= int(fields.get(b"sample_n_bytes", b"1"))
    except (KeyError, ValueError):
        raise AudioError("damaged: a NIST SPHERE header that does not state the number of its samples") from None
    held = source.size - start - int(length[1])
    if stated > held:
        raise AudioError(f"cut short: {max(held, 0):,} of the {stated:,} bytes of samples that its header states")
    end = start + int(length[1]) + stated
    check_trailer(source, end, stated)
    return Plan([(start, end)])


def voc(source: Source, start: int) -> Plan:
    """Creative's VOC: a list of blocks. libsndfile reads the first of samples, FFmpeg all."""
    position = start + source.integer(start + 20, 2, "little")
    kinds: list[int] = []
    while position < source.size:
        kind = source.integer(position, 1)
        if kind == 0:
            position += 1
            check_trailer(source, position, position - start)
            break
        size = source.integer(position + 1, 3, "little")
        if kind == 9 and source.size == position + size + 13 and source.read(source.size - 1, 1) == b"\0":
            size += 8  # SoX counts four of the twelve bytes before the samples.
        if position + 4 + size > source.size:
            raise AudioError(f"cut short: its last block has {source.size - position - 4:,} of its {size:,} bytes")
        kinds.append(kind)
        position += 4 + size
    # Some writers leave out the block that marks the end.
    if unread := sorted(set(kinds) & {3, 6, 7}):
        names = {3: "silence", 6: "the start of a repetition", 7: "the end of a repetition"}
        raise AudioError(
            f"a VOC with blocks of {' and '.join(names[kind] for kind in unread)}, which no decoder here reads: "
            "convert it to WAV"
        )
    num_samples = sum(kind in (1, 2, 9) for kind in kinds)
    return Plan([(start, position)], "voc", by_libsndfile=num_samples <= 1)


def avr(source: Source, start: int) -> Plan:
    """Audio Visual Research, of the Atari."""
    channels = 2 if source.integer(start + 12, 2) else 1
    stated = source.integer(start + 26, 4) * channels * max(source.integer(start + 14, 2) // 8, 1)
    held = source.size - start - 128
    if stated > held:
        raise AudioError(f"cut short: {max(held, 0):,} of the {stated:,} bytes of samples that its header states")
    end = start + 128 + stated
    check_trailer(source, end, stated)
    return Plan([(start, end)])


def paf(source: Source, start: int) -> Plan:
    """Ensoniq's PARIS. Of 24 bits ten samples are a block of 32 bytes a channel."""
    order = "big" if source.read(start, 4) == b" paf" else "little"
    kind, channels = source.integer(start + 16, 4, order), source.integer(start + 20, 4, order)
    return _headed(source, start, 2048, channels * {0: 2, 1: 32, 2: 1}.get(kind, 1))


def pvf(source: Source, start: int) -> Plan:
    """Portable Voice Format: a line of text with the numbers of channels, Hz and bits."""
    header = re.match(rb"PVF1\n(\d+) +(\d+) +(\d+)\n", source.read(start, 64))
    if not header:
        raise AudioError("damaged: a PVF file without its line of numbers")
    return _headed(source, start, header.end(), int(header[1]) * int(header[3]) // 8)


def ircam(source: Source, start: int) -> Plan:
    """IRCAM, BICSF, CARL."""
    order = "little" if source.read(start, 1) == b"\x64" else "big"
    channels, coding = source.integer(start + 8, 4, order), source.integer(start + 12, 4, order)
    return _headed(source, start, 1024, channels * (coding & 0xFFFF))


def htk(source: Source, start: int) -> Plan:
    return Plan([(start, source.size)])


def _headed(source: Source, start: int, header: int, block: int) -> Plan:
    """Samples up to the end of the file, of a number that nothing states."""
    held = source.size - start - header
    if held < 0:
        raise AudioError("cut short: it ends within its header")
    if block and held % block:
        raise AudioError(f"cut short: its last sample has {held % block} of its {block} bytes")
    return Plan([(start, source.size)])


@dataclass(frozen=True)
class FlacHeader:
    """What a FLAC states of itself.

    Attributes:
      total: samples per channel; None if it does not state them.
      bits: of each sample.
      md5: of all samples; None if it does not state it.
    """

    total: int | None
    bits: int
    md5: bytes | None


def flac_header(source: Source, start: int) -> FlacHeader:
    """Raises AudioError: the FLAC ends within its header, or another one follows it."""
    if source.size < start + 42 or source.integer(start + 4, 1) & 127 != 0:
        raise AudioError("cut short or damaged: a FLAC that ends within its header")
    if (second := source.find(_FLAC_START, start + 42)) >= 0:
        raise AudioError(f"several files in one: another FLAC begins at byte {second:,}; cut the file there")
    fields = source.integer(start + 18, 8)
    md5 = source.read(start + 26, 16)
    return FlacHeader(fields & 0xF_FFFF_FFFF or None, (fields >> 36 & 31) + 1, md5 if any(md5) else None)


def flac_without_total(source: Source, start: int, end: int) -> list[Piece]:
    """The same FLAC, with a header that states no length: libFLAC then decodes all that there is."""
    byte = source.integer(start + 21, 1)
    return [(start, start + 21), bytes([byte & 0xF0]) + bytes(4), (start + 26, end)]
