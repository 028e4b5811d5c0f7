"""Apple's Core Audio Format (CAF)."""

from __future__ import annotations

from spectra_jax.audio.containers.chunks import (
    Chunk,
    Field,
    check_trailer,
    check_unknown_length,
    iter_chunks,
    replace_fields,
)
from spectra_jax.audio.containers.stream import EncodedStream, FFmpegOptions, LibsndfileOptions
from spectra_jax.audio.source import ByteRange, Source
from spectra_jax.errors import AudioError

# The data chunk begins with a count of edits.
_EDIT_COUNT_BYTES = 4


def parse_caf(source: Source, start: int) -> EncodedStream:
    """Check a CAF.

    Raises:
      AudioError: cut short, several files in one, or without samples.
    """
    samples: Chunk | None = None
    packet_bytes = 1
    end = start
    for chunk in iter_chunks(source, start + 8, "big", size_bytes=8):
        if chunk.name == b"desc":
            # 0 where packets differ in length.
            packet_bytes = max(source.integer(chunk.start + 16, 4), 1)
        available = source.size - chunk.start
        if chunk.name == b"data":
            samples = chunk
            if chunk.size >= 1 << 63:  # -1: up to the end of the file, which libsndfile does not support.
                start_of_samples = chunk.start + _EDIT_COUNT_BYTES
                check_unknown_length(source, start_of_samples, available - _EDIT_COUNT_BYTES, packet_bytes)
                spans = replace_fields(source, start, [Field(chunk.start - 8, 8, available)], "big")
                return EncodedStream(spans, LibsndfileOptions(), FFmpegOptions("caf"))
        if chunk.end > source.size:
            what = "samples" if chunk.name == b"data" else f"its chunk {chunk.name.decode('ascii', 'replace')!r}"
            raise AudioError(f"cut short: {available:,} of the {chunk.size:,} bytes of {what} that its header states")
        end = chunk.end
    if samples is None:
        raise AudioError("cut short or damaged: a CAF without samples (no data chunk)")
    check_trailer(source, end, samples.size)
    return EncodedStream([ByteRange(start, source.size)], LibsndfileOptions(), FFmpegOptions("caf"))
