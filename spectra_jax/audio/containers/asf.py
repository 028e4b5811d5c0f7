"""ASF (WMA, WMV): whether all packets that the header states are in the file, before FFmpeg decodes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions
from spectra_jax.audio.source import ByteRange, Source
from spectra_jax.errors import AudioError

# GUIDs of objects.
_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_NEXT_DATA = re.compile(re.escape(_DATA))
_DATA_HEADER_BYTES = 50
# FFmpeg marks the end of an ASF that it writes to a pipe.
_END_MARK_BYTES = 12


@dataclass(frozen=True)
class _FileProperties:
    """What the header states: the number of packets, their length in bytes, and whether it was written to a pipe."""

    num_packets: int = 0
    packet_bytes: int = 0
    streamed: bool = False


def parse_asf(source: Source, start: int) -> EncodedStream:
    """Check an ASF file. The header of one that was streamed states no length.

    Raises:
      AudioError: fewer packets than its header states, or several files in one.
    """
    header_end = start + source.integer(start + 16, 8, "little")
    properties = _read_properties(source, start + 30, header_end)
    if header_end > source.size or source.read(header_end, 16) != _DATA:
        raise AudioError("cut short or damaged: an ASF file without samples")
    if properties.packet_bytes == 0:
        raise AudioError("damaged: its ASF header does not state the length of its packets")
    num_packets, packet_bytes = properties.num_packets, properties.packet_bytes
    data_end = header_end + source.integer(header_end + 16, 8, "little")
    available = source.size - header_end - _DATA_HEADER_BYTES
    end = source.size
    if properties.streamed and (num_packets == 0 or data_end <= header_end + _DATA_HEADER_BYTES):
        partial = available % packet_bytes
        if partial == _END_MARK_BYTES and source.read(source.size - _END_MARK_BYTES, 2) == b"$E":
            end = source.size - _END_MARK_BYTES
        elif partial:
            raise AudioError(f"cut short: its last packet has {partial:,} of its {packet_bytes:,} bytes")
    elif num_packets * packet_bytes > available or data_end > source.size:
        raise AudioError(
            f"cut short: {available // packet_bytes:,} of the {num_packets:,} packets that its header states"
        )
    elif (second := source.find(_NEXT_DATA, data_end)) >= 0:
        raise AudioError(f"several files in one: another ASF file begins at byte {second:,}")
    return EncodedStream([ByteRange(start, end)], ffmpeg=FFmpegOptions("asf", states_duration=not properties.streamed))


def _read_properties(source: Source, position: int, header_end: int) -> _FileProperties:
    properties = _FileProperties()
    while position + 24 <= min(header_end, source.size):
        size = source.integer(position + 16, 8, "little")
        if source.read(position, 16) == _FILE_PROPERTIES:
            num_packets, flags, packet_bytes = (
                source.integer(position + offset, length, "little") for offset, length in ((56, 8), (88, 4), (92, 4))
            )
            properties = _FileProperties(num_packets, packet_bytes, bool(flags & 1))
        if size < 24:
            raise AudioError("damaged: an object of its ASF header is shorter than its own header")
        position += size
    return properties
