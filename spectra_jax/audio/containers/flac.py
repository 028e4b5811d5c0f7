"""FLAC: its header, and the recording without the length that it states."""

from __future__ import annotations

import re

from spectra_jax.audio.containers.stream import EncodedStream, LibsndfileOptions
from spectra_jax.audio.containers.tags import end_without_tags
from spectra_jax.audio.source import ByteRange, Source, Span
from spectra_jax.errors import AudioError

# A FLAC's mark, and the header of its first metadata block (STREAMINFO).
_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")


def parse_flac(source: Source, start: int) -> EncodedStream:
    """A FLAC with a header that states no length: libFLAC then decodes all frames, and the caller counts the samples.

    Raises:
      AudioError: it ends within its header, or another FLAC follows it.
    """
    if source.size < start + 42 or source.integer(start + 4, 1) & 127 != 0:
        raise AudioError("cut short or damaged: a FLAC that ends within its header")
    if (second := source.find(_FLAC_START, start + 42)) >= 0:
        raise AudioError(f"several files in one: another FLAC begins at byte {second:,}; cut the file there")
    # STREAMINFO: the sample rate, channels, bits (less one) and, in the last 36 bits, samples per channel.
    fields = source.integer(start + 18, 8)
    num_samples = fields & 0xF_FFFF_FFFF or None
    md5 = source.read(start + 26, 16)
    end = source.size if num_samples else end_without_tags(source)
    without_length = bytes([source.integer(start + 21, 1) & 0xF0]) + bytes(4)
    spans: list[Span] = [ByteRange(start, start + 21), without_length, ByteRange(start + 26, end)]
    options = LibsndfileOptions(num_samples, md5 if any(md5) else None, (fields >> 36 & 31) + 1)
    return EncodedStream(spans, options)
