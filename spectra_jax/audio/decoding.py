"""From an audio file to samples: decoded to its end, mono, at its own rate."""

from __future__ import annotations

import io
import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike, NDArray

from spectra_jax.audio.containers import parse
from spectra_jax.audio.containers.stream import EncodedStream
from spectra_jax.audio.inspection import InspectedBlocks
from spectra_jax.audio.readers import Reader, open_reader
from spectra_jax.audio.resampling import MAX_RATE, MIN_RATE
from spectra_jax.audio.samples import to_mono
from spectra_jax.audio.source import Source
from spectra_jax.errors import AudioError

BLOCK_SAMPLES = 1 << 16
"""Samples of a block over all channels together, so that no number of channels in a header requests much memory."""
DECODE_SECONDS = 300.0
"""The longest that decoding may take: far longer than any clip needs. An hour of MP3 takes ten seconds."""
# Suffixes of samples without a header. Their first samples may look like any format.
_HEADERLESS = frozenset({".raw", ".pcm", ".vox", ".ulaw", ".alaw", ".ul", ".al", ".sln", ".s16"})


def read(path: str | os.PathLike[str]) -> tuple[Float32[np.ndarray, " samples"], int]:
    """Decode an audio file completely, or raise an error: never return a part of it.

    A file is recognised by its content, whatever its name. libsndfile decodes WAV, FLAC, AIFF, Ogg (Vorbis, Opus) and
    the older formats of uncompressed samples, as `soundfile.read(path, dtype="float32")` does: integer PCM is divided
    by its full scale (16-bit samples by 32768, exactly), floating-point samples are returned as they are. FFmpeg
    decodes the rest, MP3 included: AAC, MP4 and QuickTime, Matroska and WebM, WMA, AC-3, AMR, GSM, WavPack, Speex, and
    codecs in WAV, AIFF and CAF that libsndfile lacks. It removes the codec delay and padding that a file states.
    Several channels are averaged. Of several audio streams the one marked as the default is decoded, or else the first.
    Chained Ogg streams, and joined streams of MP3, AAC or AC-3 frames, are one recording; several files of another
    format in one file are an error, as is a sample rate that changes within a recording. Chained Opus streams whose
    originals had different rates are decoded at 48 kHz.

    A recording that was cut short or damaged is an error where its container shows it. It does not:

    - in PAF, PVF and IRCAM, which do not state a length, if the recording was cut between two samples;
    - in a WAV, AIFF, AU, CAF or W64 whose writer did not know its length, since it wrote to a pipe, likewise. The
      length that such a writer leaves is one of a few known values (`chunks.is_placeholder`); any other is the
      recording's;
    - in MP3 without a header that counts its frames, in AAC (ADTS), AC-3, AMR and GSM, if it was cut between two
      frames;
    - in Ogg, if it was cut between two pages: not every writer marks the last one;
    - in fragmented MP4 and in Matroska without lengths, if it was cut between two fragments or blocks;
    - in a VOC, if it was cut between two of its blocks;
    - in FLAC without a length, if it was cut between two frames.

    Changed values of uncompressed samples, and of most lossy codecs, are not detected either.

    Returns:
      The samples, (samples,) float32, and the sample rate in Hz. Neither resampled nor checked for NaN: see `prepare`.

    Raises:
      AudioError: no such file, a folder, no permission, not audio, an unsupported codec, encrypted, damaged, cut short,
        or without samples.
    """
    decoded = decode(path)
    return decoded.samples, decoded.rate


@dataclass(frozen=True)
class Decoded:
    """A decoded clip, or the start of one.

    Attributes:
      samples: (samples,) float32 mono: the complete clip, or as much of its start as `keep_seconds` requested.
      rate: in Hz.
      num_samples: of the complete clip.
      sha256: of all its samples, mono, as little-endian float32.
      not_finite: how many samples of the complete clip are NaN or infinite, as a sentence; None if none is.
    """

    samples: Float32[np.ndarray, " samples"]
    rate: int
    num_samples: int
    sha256: str
    not_finite: str | None

    @property
    def seconds(self) -> float:
        return self.num_samples / self.rate


@dataclass(frozen=True)
class AudioStream:
    """A recording that is being decoded. Iterate over it once.

    Attributes:
      rate: in Hz.
      blocks: mono float32 samples, at most 65,536 over all channels at a time, until the recording's end. They raise an
        `AudioError` as soon as the recording is known to be cut short or damaged: at its end at the latest.
      expected_samples: how many its headers state, which may be wrong: for progress only; None where they state none.
    """

    rate: int
    blocks: Iterator[NDArray[np.float32]]
    expected_samples: int | None = None

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self.blocks


@contextmanager
def open_stream(
    path: str | os.PathLike[str],
    content: bytes | None = None,
    *,
    block_samples: int = BLOCK_SAMPLES,
    timeout: float = DECODE_SECONDS,
) -> Iterator[AudioStream]:
    """Decode an audio file block by block: see `read`.

        with open_stream("clip.flac") as stream:
            for block in stream:
                ...

    Args:
      path: of the file, or, with `content`, its name in messages.
      content: the file's bytes, if it is not to be read from its path.
      block_samples: the largest number of samples of a block, over all channels.
      timeout: seconds that decoding may take, without the time between two blocks.

    Raises:
      AudioError: as in `read`, here or from the blocks; or decoding takes longer than `timeout`.
    """
    name = str(path)
    with ExitStack() as stack:
        with _errors_naming(name):
            if content is None:
                file = stack.enter_context(_open_file(Path(path)))
            elif content:
                file = stack.enter_context(io.BytesIO(content))
            else:
                raise AudioError("empty (0 bytes)")
            source = Source(file)
            streams = parse(source)
            first = open_reader(source, streams[0])
            stack.callback(first.close)
            rate = first.rate
            if not MIN_RATE <= rate <= MAX_RATE:
                raise AudioError(f"its sample rate of {rate:,} Hz is outside {MIN_RATE:,} to {MAX_RATE:,} Hz")
        expected = first.expected_samples if len(streams) == 1 else None
        blocks = _chained_blocks(source, first, streams, block_samples)
        yield AudioStream(rate, _timed_blocks(blocks, name, timeout), expected)


def _chained_blocks(
    source: Source, first: Reader, streams: list[EncodedStream], block_samples: int
) -> Iterator[NDArray[np.float32]]:
    """The samples of the first recording in a file, which is open, and of those that are chained to it."""
    yield from first.blocks(block_samples)
    for number, stream in enumerate(streams[1:], start=2):
        reader = open_reader(source, stream)
        try:
            if reader.rate != first.rate:
                raise AudioError(
                    f"its sample rate changes from {first.rate} to {reader.rate} Hz in part {number} of "
                    f"{len(streams)}: cut it there into files"
                )
            yield from reader.blocks(block_samples)
        finally:
            reader.close()


@contextmanager
def _errors_naming(name: str) -> Iterator[None]:
    """Raise every error of a recording as an `AudioError` that names it."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # A parser or a decoder that fails on unforeseen bytes costs this recording, and not the run.
        raise AudioError(f"{name}: cannot be decoded: {type(error).__name__}: {error}") from error


def _timed_blocks(blocks: Iterator[NDArray[np.float32]], name: str, timeout: float) -> Iterator[NDArray[np.float32]]:
    """The same blocks. Raises AudioError if decoding takes longer than `timeout` seconds altogether."""
    seconds = 0.0
    while True:
        start = time.monotonic()
        with _errors_naming(name):
            block = next(blocks, None)
        seconds += time.monotonic() - start
        if block is None:
            return
        if seconds > timeout:
            raise AudioError(f"{name}: decoding takes longer than {timeout:g} s; cut it into shorter files")
        yield block


def decode(
    path: str | os.PathLike[str],
    content: bytes | None = None,
    *,
    keep_seconds: float = math.inf,
    block_samples: int = BLOCK_SAMPLES,
    timeout: float = DECODE_SECONDS,
) -> Decoded:
    """Decode an audio file to its end, a block at a time, keeping its start: see `read`.

    Args:
      path, content, block_samples, timeout: see `open_stream`.
      keep_seconds: how much of the start to keep. Memory grows with what is kept, whatever length a header states.

    Raises:
      AudioError: as in `open_stream`.
    """
    with open_stream(path, content, block_samples=block_samples, timeout=timeout) as stream:
        return keep_start(stream, str(path), keep_seconds)


def keep_start(stream: AudioStream, name: str, keep_seconds: float = math.inf) -> Decoded:
    """Read a recording to its end and keep its start.

    Args:
      stream: the recording.
      name: of it, in messages.
      keep_seconds: how much of the start to keep.

    Raises:
      AudioError: as from the stream's blocks; or there are no samples.
    """
    kept: list[NDArray[np.float32]] = []
    missing = keep_seconds * stream.rate
    blocks = InspectedBlocks(stream, name)
    for block in blocks:
        if missing > 0:
            kept.append(block[: math.ceil(min(missing, len(block)))])
            missing -= len(block)
    assert blocks.sha256 is not None
    samples = np.concatenate([np.zeros(0, np.float32), *kept])
    return Decoded(samples, stream.rate, blocks.num_samples, blocks.sha256, blocks.not_finite)


def stream_samples(samples: ArrayLike, rate: int) -> AudioStream:
    """The stream of a recording that is in memory.

    Args:
      samples: (samples,) or (samples, channels), see `spectra_jax.audio.to_mono`.
      rate: in Hz.

    Raises:
      AudioError: a shape or type that no clip has.
    """
    mono = to_mono(samples)
    starts = range(0, len(mono), BLOCK_SAMPLES)
    return AudioStream(rate, (mono[start : start + BLOCK_SAMPLES] for start in starts), len(mono))


def _open_file(file: Path) -> io.BufferedIOBase:
    """Open a regular file. Raises AudioError: there is none, or it cannot hold a recording."""
    try:
        # Checked before it is opened, since opening a pipe would block.
        status = file.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size and file.suffix.lower() not in _HEADERLESS:
            return file.open("rb")
    except FileNotFoundError:
        raise AudioError("no such file") from None
    except PermissionError:
        raise AudioError("no permission to read it") from None
    # ValueError: a NUL in the path.
    except (OSError, ValueError) as error:
        raise AudioError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError("a folder, not an audio file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError("a pipe or a device, not an audio file")
    if status.st_size == 0:
        raise AudioError("empty (0 bytes)")
    raise AudioError("samples without a header, which do not state their rate and format; convert them to WAV")
