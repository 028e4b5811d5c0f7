"""From an audio file to samples: decoded to its end, mono, at its own rate."""

from __future__ import annotations

import io
import math
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio import boxes, chunks, containers, frames, ogg
from spectra_jax.audio.ffmpeg import FFmpegReader
from spectra_jax.audio.inspection import InspectedBlocks
from spectra_jax.audio.libsndfile import LibsndfileReader
from spectra_jax.audio.resampling import MAX_RATE, MIN_RATE
from spectra_jax.audio.source import Source, View, append
from spectra_jax.errors import AudioError, UnsupportedCodecError

# Of all channels together, so that no number of them in a header asks for much memory.
_BLOCK_SAMPLES = 1 << 16
# Far longer than any clip takes: an hour of MP3 takes ten.
_DECODE_SECONDS = 300
# Suffixes of samples without a header. Their first samples may look like any kind of file.
_HEADERLESS = frozenset({".raw", ".pcm", ".vox", ".ulaw", ".alaw", ".ul", ".al", ".sln", ".s16"})


def read(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """Decode an audio file whole, or refuse it: never a part of it.

    A file is recognised by its content, whatever its name. libsndfile decodes WAV, FLAC, AIFF, Ogg (Vorbis, Opus) and
    the older kinds of uncompressed samples, as `soundfile.read(path, dtype="float32")`: integer PCM divided by its full
    scale (16-bit samples by 32768, exactly), floating-point samples as they are. FFmpeg decodes the rest, MP3 too: AAC,
    MP4 and QuickTime, Matroska and WebM, WMA, AC-3, AMR, GSM, WavPack, Speex, and codecs in WAV, AIFF and CAF that
    libsndfile lacks. It leaves out what an encoder says that it added before and after a recording. Several channels
    are averaged. Of several audio streams the one marked as the default is decoded, or else the first. Chained Ogg
    streams, and joined streams of MP3, AAC or AC-3 frames, are one recording; other files in one file are refused, as
    is a sample rate that changes on the way. Chained Opus streams whose originals had different rates are decoded at 48
    kHz.

    A recording that was cut short or damaged is refused where its container can tell. It cannot:

    - in PAF, PVF and IRCAM, which do not state a length, if it was cut between two samples;
    - in a WAV, AIFF, AU, CAF or W64 whose writer did not know its length, since it wrote to a pipe, likewise. The
      length that such a writer leaves is one of a few that are known (`chunks.is_placeholder`); any other is the
      recording's;
    - in MP3 without a header that counts its frames, in AAC (ADTS), AC-3, AMR and GSM, if it was cut between two
      frames;
    - in Ogg, if it was cut between two pages: not every writer marks the last one;
    - in fragmented MP4 and in Matroska without lengths, if it was cut between two fragments or blocks;
    - in a VOC, if it was cut between two of its blocks;
    - in FLAC without a length, if it was cut between two frames.

    Nor can uncompressed samples, nor most of the lossy codecs, tell when values within them were changed.

    Returns:
      The samples, (samples,) float32, and the sample rate in Hz. Neither resampled nor checked for NaN: see `prepare`.

    Raises:
      AudioError: no such file, a folder, no permission, not audio, of a codec that is not decoded here, encrypted,
        damaged, cut short, or without samples.
    """
    decoded = decode(path)
    return decoded.samples, decoded.rate


@dataclass(frozen=True)
class Decoded:
    """A clip as decoded, or the start of it.

    Attributes:
      samples: (n,) float32 mono: the whole clip, or as much of its start as was asked for.
      rate: in Hz.
      num_samples: of the whole clip.
      sha256: of all its samples, mono, as little-endian float32.
      broken: what is wrong where samples of the whole clip are NaN or infinite.
    """

    samples: NDArray[np.float32]
    rate: int
    num_samples: int
    sha256: str
    broken: str | None

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
      expected_samples: how many its headers state, for progress alone: it may be wrong; None where they state none.
    """

    rate: int
    blocks: Iterator[NDArray[np.float32]]
    expected_samples: int | None = None

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self.blocks


@contextmanager
def open_stream(path: str | os.PathLike[str], content: bytes | None = None) -> Iterator[AudioStream]:
    """Decode an audio file block by block: see `read`.

        with open_stream("clip.flac") as stream:
            for block in stream:
                ...

    Args:
      path: of the file, or, with `content`, what messages call it.
      content: the file's bytes, where it is not to be read from its path.

    Raises:
      AudioError: as in `read`, here or from the blocks; or decoding takes longer than five minutes.
    """
    name = str(path)
    with ExitStack() as stack:
        with _naming(name):
            if content is None:
                file = stack.enter_context(_open_file(Path(path)))
            elif content:
                file = stack.enter_context(io.BytesIO(content))
            else:
                raise AudioError("empty (0 bytes)")
            readers = list(_readers(Source(file)))
            first = readers[0]()
            stack.callback(first.close)
            rate = first.rate
            if not MIN_RATE <= rate <= MAX_RATE:
                raise AudioError(f"its sample rate of {rate:,} Hz is not one from {MIN_RATE:,} to {MAX_RATE:,} Hz")
        expected = first.expected_samples if len(readers) == 1 else None
        yield AudioStream(rate, _bounded(_blocks(first, readers[1:]), name), expected)


class _Reader(Protocol):
    rate: int
    expected_samples: int | None

    def blocks(self, block_samples: int) -> Iterator[NDArray[np.float32]]: ...

    def close(self) -> None: ...


def _blocks(first: _Reader, others: list[Callable[[], _Reader]]) -> Iterator[NDArray[np.float32]]:
    """The samples of a recording, and of those that are chained to it in the same file."""
    yield from first.blocks(_BLOCK_SAMPLES)
    for number, opened in enumerate(others, start=2):
        reader = opened()
        try:
            if reader.rate != first.rate:
                raise AudioError(
                    f"its sample rate changes from {first.rate} to {reader.rate} Hz in part {number} of "
                    f"{len(others) + 1}: cut it there into files"
                )
            yield from reader.blocks(_BLOCK_SAMPLES)
        finally:
            reader.close()


def _readers(source: Source) -> list[Callable[[], _Reader]]:
    """What decodes each of the recordings that are chained in a file: of nearly every file one."""
    kind, start = containers.identify(source)
    if kind in _CHUNKS:
        plan = _CHUNKS[kind](source, start)
        return [partial(_open_plan, source, plan)]
    if kind == "flac":
        header = chunks.flac_header(source, start)
        end = source.size if header.total else frames.without_tags(source)
        view = View(source, chunks.flac_without_total(source, start, end))
        return [lambda: LibsndfileReader(view, header.total, md5=header.md5, bits=header.bits)]
    if kind == "ogg":
        links = ogg.links(source, start)
        # FFmpeg decodes Opus at 48 kHz, whatever the rate of the original.
        one_rate = len({link.rate for link in links if link.rate}) <= 1
        return [partial(_open_ogg, source, link, one_rate) for link in links]
    return [_framed(source, kind, start)]


_CHUNKS = {
    "wav": chunks.wav,
    "w64": chunks.wave64,
    "aiff": chunks.aiff,
    "svx": chunks.svx,
    "caf": chunks.caf,
    "au": chunks.au,
    "sphere": chunks.sphere,
    "voc": chunks.voc,
    "avr": chunks.avr,
    "paf": chunks.paf,
    "pvf": chunks.pvf,
    "ircam": chunks.ircam,
    "htk": chunks.htk,
}
# Streams of frames: the bytes and the samples of one, what messages call them, FFmpeg's name of the container, and the
# bytes before the first.
_FRAMES: dict[str, tuple[frames.FrameLength, Callable[[bytes], int], str, str, int]] = {
    "aac": (frames.adts_frame, frames.adts_samples, "AAC", "aac", 0),
    "ac3": (frames.ac3_frame, frames.ac3_samples, "AC-3", "ac3", 0),
    "gsm": (frames.gsm_frame, lambda _: 160, "GSM", "gsm", 0),
    "amr": (frames.amr_frame, lambda _: 160, "AMR", "amr", 6),
    "amr-wb": (frames.amr_wb_frame, lambda _: 320, "AMR", "amr", 9),
}
_CHECKS = {
    "mp4": (boxes.check_mp4, "mov"),
    "matroska": (boxes.check_matroska, "matroska"),
}


def _framed(source: Source, kind: str, start: int) -> Callable[[], _Reader]:
    if kind in _CHECKS:
        check, container = _CHECKS[kind]
        end, packets = check(source, start)
        return lambda: FFmpegReader(View(source, [(start, end)]), container, packets=packets)
    if kind == "asf":
        end, streamed = boxes.check_asf(source, start)
        return lambda: FFmpegReader(View(source, [(start, end)]), "asf", states_seconds=not streamed)
    if kind == "wavpack":
        end, num_samples = boxes.wavpack(source, start)
        return lambda: FFmpegReader(View(source, [(start, end)]), "wv", num_samples)
    if kind == "mp3":
        pieces, num_samples = frames.mp3(source, start)
        return lambda: FFmpegReader(View(source, pieces), "mp3", num_samples)
    length_of, samples_of, name, container, magic = _FRAMES[kind]
    pieces = [source.read(start, magic)]
    at_least = 0
    for begin, end in frames.walk(source, start + magic, length_of, name):
        append(pieces, begin, end)
        at_least += samples_of(source.read(begin, 16))
    if container == "ac3" and source.integer(start + 5, 1) >> 3 > 10:
        container = "eac3"
    return lambda: FFmpegReader(View(source, pieces), container, at_least)


def _open_plan(source: Source, plan: chunks.Plan) -> _Reader:
    if plan.by_libsndfile:
        try:
            return LibsndfileReader(View(source, plan.pieces))
        except UnsupportedCodecError:
            if plan.container is None:
                raise
    assert plan.container is not None
    return FFmpegReader(View(source, plan.pieces), plan.container, codec=plan.codec)


def _open_ogg(source: Source, link: ogg.OggStream, one_rate: bool) -> _Reader:
    is_opus = link.first.startswith(b"OpusHead")
    if link.lowest_position < 0:
        # As FFmpeg's cuts without encoding have them. libsndfile returns samples that it never set.
        return FFmpegReader(View(source, ogg.with_positions_from_zero(source, link)), "ogg")
    view = View(source, ogg.with_an_end(source, link))
    if ogg.decoder(link) == "libsndfile" and (one_rate or not is_opus):
        try:
            return LibsndfileReader(view)
        except AudioError:
            # It refuses Opus streams that begin with samples to be left out, as FFmpeg's cuts without encoding do.
            if not is_opus:
                raise
            view.seek(0)
    return FFmpegReader(view, "ogg")


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Whatever goes wrong with a recording, as an `AudioError` that names it."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # A parser or a decoder that fails on bytes that nobody thought of costs this recording, and never a whole run.
        raise AudioError(f"{name}: cannot be decoded: {type(error).__name__}: {error}") from error


def _bounded(blocks: Iterator[NDArray[np.float32]], name: str) -> Iterator[NDArray[np.float32]]:
    """The same blocks, in bounded time, of which what is done between the blocks is no part."""
    spent = 0.0
    while True:
        begun = time.monotonic()
        with _naming(name):
            block = next(blocks, None)
        spent += time.monotonic() - begun
        if block is None:
            return
        if spent > _DECODE_SECONDS:
            raise AudioError(f"{name}: not decoded after {_DECODE_SECONDS} s; cut it into shorter files")
        yield block


def decode(path: str | os.PathLike[str], content: bytes | None = None, *, keep_seconds: float = math.inf) -> Decoded:
    """Decode an audio file to its end, a block at a time, keeping its start: see `read`.

    Args:
      path: of the file, or, with `content`, what messages call it.
      content: the file's bytes, where it is not to be read from its path.
      keep_seconds: how much of the start to keep. No header is believed: memory grows with what is kept alone.

    Raises:
      AudioError: as in `read`; or decoding takes longer than five minutes.
    """
    kept: list[NDArray[np.float32]] = []
    with open_stream(path, content) as stream:
        left = keep_seconds * stream.rate
        blocks = InspectedBlocks(stream, str(path))
        for block in blocks:
            if left > 0:
                kept.append(block[: math.ceil(min(left, len(block)))])
                left -= len(block)
    assert blocks.sha256 is not None
    samples = np.concatenate([np.zeros(0, np.float32), *kept])
    return Decoded(samples, stream.rate, blocks.num_samples, blocks.sha256, blocks.not_finite)


def _open_file(file: Path) -> BinaryIO:
    """Open a file, or give the plain reasons their own sentence."""
    try:
        # Before it is opened: a pipe would be waited for.
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
    raise AudioError("headerless samples, of which neither rate nor format is known; convert it to WAV")
