"""Older files of uncompressed samples behind one header: AU, SPHERE, VOC, AVR, PAF, PVF, IRCAM and HTK."""

from __future__ import annotations

import re

from spectra_jax.audio.containers.chunks import (
    Field,
    check_trailer,
    is_placeholder,
    replace_fields,
    require_complete_sample,
    require_samples,
)
from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions, LibsndfileOptions
from spectra_jax.audio.source import ByteOrder, ByteRange, Source, Span
from spectra_jax.errors import AudioError

# Bytes of a sample by the encoding number of AU. Others are of codecs in which a sample has no bytes of its own.
_AU_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_SPHERE_MAX_HEADER_BYTES = 1 << 20
_AVR_HEADER_BYTES, _PAF_HEADER_BYTES, _IRCAM_HEADER_BYTES = 128, 2048, 1024
# Bytes of a block by PAF's format number; of 24 bits ten samples are a block of 32 bytes a channel.
_PAF_WIDTHS = {0: 2, 1: 32, 2: 1}
# Kinds of blocks of a VOC.
_VOC_END, _VOC_NEW_FORMAT = 0, 9
_VOC_SAMPLES = (1, 2, _VOC_NEW_FORMAT)
_VOC_UNSUPPORTED = {3: "silence", 6: "the start of a repetition", 7: "the end of a repetition"}


def parse_au(source: Source, start: int) -> EncodedStream:
    """Check Sun's and NeXT's AU, also in its little-endian kind. Raises AudioError: cut short, or several files."""
    order: ByteOrder = "big" if source.read(start, 4) == b".snd" else "little"
    offset, size, encoding = (source.integer(start + k, 4, order) for k in (4, 8, 12))
    available = source.size - start - offset
    if available < 0:
        raise AudioError("cut short: it ends within its header")
    width = _AU_WIDTHS.get(encoding, 0) * source.integer(start + 20, 4, order)
    spans: list[Span] = [ByteRange(start, source.size)]
    unknown = size == 0xFFFF_FFFF or (
        available and (size == 0 or (size > available and is_placeholder(size, 0, offset, width, available)))
    )
    if unknown:
        require_complete_sample(available, width)
        spans = replace_fields(source, start, [Field(start + 8, 4, available)], order)
    else:
        require_samples(size, available)
        check_trailer(source, start + offset + size, size)
    return EncodedStream(spans, LibsndfileOptions(), FFmpegOptions("au"))


def parse_sphere(source: Source, start: int) -> EncodedStream:
    """Check a NIST SPHERE file, as TIMIT and the telephone corpora have them.

    Raises:
      AudioError: cut short, compressed (shorten), or a header that does not state the number of samples.
    """
    match = re.match(rb"NIST_1A\s+(\d+)\s", source.read(start, 4096))
    if not match:
        raise AudioError("damaged: a NIST SPHERE file that does not state the length of its header")
    header_bytes = int(match[1])
    header = source.read(start, min(header_bytes, _SPHERE_MAX_HEADER_BYTES))
    fields = dict(re.findall(rb"^(\w+) -(?:i|s\d+) (.*?)\s*$", header, re.MULTILINE))
    coding = fields.get(b"sample_coding", b"pcm").decode("ascii", "replace")
    if "shorten" in coding or "," in coding:
        raise AudioError(f"NIST SPHERE samples compressed as {coding}: decompress it with sph2pipe")
    try:
        size = int(fields[b"sample_count"]) * int(fields.get(b"channel_count", b"1"))
        size *= int(fields.get(b"sample_n_bytes", b"1"))
    except (KeyError, ValueError):
        raise AudioError("damaged: a NIST SPHERE header that does not state the number of its samples") from None
    return _stated_size(source, start, header_bytes, size)


def parse_voc(source: Source, start: int) -> EncodedStream:
    """Check Creative's VOC, a list of blocks. libsndfile decodes the first block of samples, FFmpeg all.

    Raises:
      AudioError: cut short, or with blocks that neither decodes.
    """
    position = start + source.integer(start + 20, 2, "little")
    kinds: list[int] = []
    while position < source.size:
        kind = source.integer(position, 1)
        if kind == _VOC_END:
            position += 1
            check_trailer(source, position, position - start)
            break
        size = source.integer(position + 1, 3, "little")
        at_end = source.size == position + size + 13 and source.read(source.size - 1, 1) == b"\0"
        if kind == _VOC_NEW_FORMAT and at_end:
            size += 8  # SoX counts four of the twelve bytes before the samples.
        if position + 4 + size > source.size:
            raise AudioError(f"cut short: its last block has {source.size - position - 4:,} of its {size:,} bytes")
        kinds.append(kind)
        position += 4 + size
    # Some writers omit the block that marks the end.
    if unsupported := sorted(set(kinds) & set(_VOC_UNSUPPORTED)):
        raise AudioError(
            f"a VOC with blocks of {' and '.join(_VOC_UNSUPPORTED[kind] for kind in unsupported)}, which neither "
            "libsndfile nor FFmpeg decodes: convert it to WAV"
        )
    has_one_block = sum(kind in _VOC_SAMPLES for kind in kinds) <= 1
    libsndfile = LibsndfileOptions() if has_one_block else None
    return EncodedStream([ByteRange(start, position)], libsndfile, FFmpegOptions("voc"))


def parse_avr(source: Source, start: int) -> EncodedStream:
    """Check an Audio Visual Research file, of the Atari. Raises AudioError: cut short, or several files."""
    channels = 2 if source.integer(start + 12, 2) else 1
    size = source.integer(start + 26, 4) * channels * max(source.integer(start + 14, 2) // 8, 1)
    return _stated_size(source, start, _AVR_HEADER_BYTES, size)


def parse_paf(source: Source, start: int) -> EncodedStream:
    """Check an Ensoniq PARIS file. Raises AudioError: it ends within its header or within a sample."""
    order: ByteOrder = "big" if source.read(start, 4) == b" paf" else "little"
    kind, channels = source.integer(start + 16, 4, order), source.integer(start + 20, 4, order)
    return _to_end_of_file(source, start, _PAF_HEADER_BYTES, channels * _PAF_WIDTHS.get(kind, 1))


def parse_pvf(source: Source, start: int) -> EncodedStream:
    """Check a Portable Voice Format file, whose header is a line of text with the numbers of channels, Hz and bits.

    Raises:
      AudioError: another header, or it ends within a sample.
    """
    header = re.match(rb"PVF1\n(\d+) +(\d+) +(\d+)\n", source.read(start, 64))
    if not header:
        raise AudioError("damaged: a PVF file without its line of channels, rate and bits")
    return _to_end_of_file(source, start, header.end(), int(header[1]) * int(header[3]) // 8)


def parse_ircam(source: Source, start: int) -> EncodedStream:
    """Check an IRCAM (BICSF, CARL) file. Raises AudioError: it ends within its header or within a sample."""
    order: ByteOrder = "little" if source.read(start, 1) == b"\x64" else "big"
    channels, coding = source.integer(start + 8, 4, order), source.integer(start + 12, 4, order)
    return _to_end_of_file(source, start, _IRCAM_HEADER_BYTES, channels * (coding & 0xFFFF))


def parse_htk(source: Source, start: int) -> EncodedStream:
    """An HTK waveform, whose length was checked when it was identified."""
    return EncodedStream([ByteRange(start, source.size)], LibsndfileOptions())


def _stated_size(source: Source, start: int, header_bytes: int, size: int) -> EncodedStream:
    """A header, `size` bytes of samples as it states them, and tags or padding."""
    require_samples(size, source.size - start - header_bytes)
    end = start + header_bytes + size
    check_trailer(source, end, size)
    return EncodedStream([ByteRange(start, end)], LibsndfileOptions())


def _to_end_of_file(source: Source, start: int, header_bytes: int, block_bytes: int) -> EncodedStream:
    """A header that does not state the number of samples, which reach to the end of the file."""
    available = source.size - start - header_bytes
    if available < 0:
        raise AudioError("cut short: it ends within its header")
    require_complete_sample(available, block_bytes)
    return EncodedStream([ByteRange(start, source.size)], LibsndfileOptions())
