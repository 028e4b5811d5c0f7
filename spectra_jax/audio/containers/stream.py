"""What a container parser returns: the spans of a recording, checked for completeness, and how to decode them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spectra_jax.audio.source import Span
from spectra_jax.errors import AudioError, UnsupportedCodecError


@dataclass(frozen=True)
class LibsndfileOptions:
    """How libsndfile decodes a stream.

    Attributes:
      num_samples: per channel, as the header states them, where bytes that are not audio may follow them.
      md5: of all samples as integers, where the header states it. libFLAC returns silence for missing frames.
      bits: of each of these integers.
    """

    num_samples: int | None = None
    md5: bytes | None = None
    bits: int = 16


@dataclass(frozen=True)
class FFmpegOptions:
    """How FFmpeg decodes a stream.

    Attributes:
      demuxer: FFmpeg's name of the container. FFmpeg never guesses it: some of its formats are lists of other files.
      codec: what messages call the codec, where the container names one that FFmpeg may not know.
      min_samples: per channel; a decoder that returns fewer has left something out.
      min_packets: of all streams of the container together.
      states_duration: whether the duration that FFmpeg reports is the container's, and not an estimate by the bit rate.
    """

    demuxer: str
    codec: str = ""
    min_samples: int = 0
    min_packets: int = 0
    states_duration: bool = True


@dataclass(frozen=True)
class EncodedStream:
    """One recording of a file, complete as far as its container can tell.

    Attributes:
      spans: of the file, with corrected header fields where decoders need them.
      libsndfile: given where libsndfile decodes it.
      ffmpeg: given where FFmpeg decodes it, or decodes it if libsndfile raises `fallback`.
      fallback: the error of libsndfile after which FFmpeg is tried.
    """

    spans: Sequence[Span]
    libsndfile: LibsndfileOptions | None = None
    ffmpeg: FFmpegOptions | None = None
    fallback: type[AudioError] = UnsupportedCodecError
