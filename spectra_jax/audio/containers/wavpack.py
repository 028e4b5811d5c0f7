"""WavPack: whether all blocks that the first one states are in the file, before FFmpeg decodes it."""

from __future__ import annotations

from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions
from spectra_jax.audio.containers.tags import TRAILING_BYTES, tag_length
from spectra_jax.audio.source import ByteRange, Source
from spectra_jax.errors import AudioError

# The flag of a block that holds the first channels; blocks of the other channels follow it.
_FIRST_CHANNELS = 0x800
_UNKNOWN_SAMPLES = 0xFFFF_FFFF


def parse_wavpack(source: Source, start: int) -> EncodedStream:
    """Check a WavPack file.

    Raises:
      AudioError: it ends within a block, or before as many samples as the first block states; several files in one.
    """
    position, end, num_samples, stated_samples = start, start, 0, _UNKNOWN_SAMPLES
    while position < source.size:
        header = source.read(position, 32)
        if header[:4] != b"wvpk":
            tag = tag_length(header)
            if not tag and (end == start or source.size - position > TRAILING_BYTES):
                raise AudioError(f"damaged: no WavPack block begins at byte {position:,}")
            position += tag or TRAILING_BYTES
            continue
        size = int.from_bytes(header[4:8], "little") + 8
        if len(header) < 32 or position + size > source.size:
            raise AudioError(f"cut short: its last WavPack block has {source.size - position:,} of its {size:,} bytes")
        total, index, number, flags = (int.from_bytes(header[k : k + 4], "little") for k in (12, 16, 20, 24))
        if number and index < num_samples and flags & _FIRST_CHANNELS:
            raise AudioError(f"several files in one: another WavPack file begins at byte {position:,}")
        stated_samples = total if position == start else stated_samples
        num_samples += number if flags & _FIRST_CHANNELS else 0
        position = end = position + size
    if stated_samples != _UNKNOWN_SAMPLES and num_samples < stated_samples:
        raise AudioError(f"cut short: {num_samples:,} of the {stated_samples:,} samples that its header states")
    return EncodedStream([ByteRange(start, end)], ffmpeg=FFmpegOptions("wv", min_samples=num_samples))
