"""The decoder of an encoded stream: libsndfile, or FFmpeg where libsndfile does not support it."""

from __future__ import annotations

from spectra_jax.audio.containers.stream import EncodedStream
from spectra_jax.audio.ffmpeg import FFmpegReader
from spectra_jax.audio.libsndfile import LibsndfileReader
from spectra_jax.audio.source import Source, SplicedFile
from spectra_jax.errors import AudioError

Reader = LibsndfileReader | FFmpegReader


def open_reader(source: Source, stream: EncodedStream) -> Reader:
    """Open the decoder of a stream.

    Raises:
      AudioError: no decoder can open it.
      OSError: the file cannot be read.
    """
    if stream.libsndfile is not None:
        try:
            return LibsndfileReader(SplicedFile(source, stream.spans), stream.libsndfile)
        except AudioError as error:
            if stream.ffmpeg is None or not isinstance(error, stream.fallback):
                raise
    assert stream.ffmpeg is not None, "a stream that no decoder is named for"
    return FFmpegReader(SplicedFile(source, stream.spans), stream.ffmpeg)
