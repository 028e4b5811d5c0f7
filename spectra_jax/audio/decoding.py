"""From an audio file to samples: decoded to its end, mono, at its own rate."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped]
from numpy.typing import NDArray

from spectra_jax.audio.errors import AudioError
from spectra_jax.audio.samples import describe_not_finite, to_mono

# Of all channels together, so that no number of them in a header asks for much memory.
_BLOCK_SAMPLES = 1 << 16
# Far longer than any clip takes: an hour of MP3 takes ten.
_DECODE_SECONDS = 300

# libsndfile cuts a header's promise down to what the file holds and goes on, and tells of it in its log alone.
_PROMISE = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
# Some writers count their own header as samples, which is no loss.
_HEADER_BYTES = 512
# Writers that cannot seek back (pipes) leave a length near the largest their field can hold.
_UNKNOWN_BYTES = 0x7FFF_0000


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read to its end, whatever its header says of its length.

    soundfile seeks after every read of a seekable file. In an MP3 that lands on the wrong sample, and in a FLAC that
    came through a pipe, without a length in its header, it fails.
    """

    def seekable(self) -> bool:
        return False


def read(path: str | os.PathLike[str]) -> tuple[NDArray[np.float32], int]:
    """Decode an audio file whole: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF and what else libsndfile knows.

    Samples are those of `soundfile.read(path, dtype="float32")`: integer PCM divided by its full scale (16-bit samples
    by 32768, exactly), floating-point samples as they are. Several channels are averaged.

    A file that was cut short is refused where it can be told: FLAC, WAV, AIFF and AU say how long they are. A cut MP3
    or Ogg stream is a shorter clip.

    Returns:
      The samples, (samples,) float32, and the sample rate in Hz. Neither resampled nor checked for NaN: see `prepare`.

    Raises:
      AudioError: no such file, a folder, no permission, not audio, damaged, cut short, or without samples.
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
      expected_samples: how many its header states, for progress alone: it may be wrong; None where it states none.
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
    source: bytes | Path | io.BytesIO
    if content is None:
        _check_file(Path(path))
        # As bytes, since soundfile fails on a file name that is not UTF-8; on Windows every name is text.
        source = os.fsencode(path) if os.name == "posix" else Path(path)
    elif content:
        source = io.BytesIO(content)
    else:
        raise AudioError(f"{name}: empty (0 bytes)")
    try:
        with _Stream(source) as sound:
            # From the first sample, as soundfile.read does: libsndfile decodes an MP3 with other last bits without it.
            sound.seek(0)
            yield AudioStream(int(sound.samplerate), _bounded(_blocks(sound, name), name), sound.frames or None)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name}: {_explain(error)}") from error


def _blocks(sound: _Stream, name: str) -> Iterator[NDArray[np.float32]]:
    frames = max(_BLOCK_SAMPLES // sound.channels, 1)
    while len(block := sound.read(frames, dtype="float32", always_2d=True)):
        yield to_mono(block)
    promise = _PROMISE.search(sound.extra_info)
    if promise:
        promised, held = int(promise[1]), int(promise[2])
        if held + _HEADER_BYTES < promised < _UNKNOWN_BYTES:
            raise AudioError(f"{name}: cut short: {held:,} of the {promised:,} bytes of samples its header promises")


def _bounded(blocks: Iterator[NDArray[np.float32]], name: str) -> Iterator[NDArray[np.float32]]:
    """The same blocks, in bounded time, of which what is done between the blocks is no part."""
    spent = 0.0
    while True:
        begun = time.monotonic()
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
    digest = hashlib.sha256()
    blocks: list[NDArray[np.float32]] = []
    num_samples = num_broken = 0
    first_broken = ""
    with open_stream(path, content) as stream:
        keep = keep_seconds * stream.rate
        for block in stream:
            digest.update(np.ascontiguousarray(block, "<f4").data)
            if len(broken := np.flatnonzero(~np.isfinite(block))):
                if not num_broken:
                    first_broken = f"sample {num_samples + broken[0]} ({block[broken[0]]})"
                num_broken += len(broken)
            if num_samples < keep:
                blocks.append(block[: math.ceil(min(keep - num_samples, len(block)))])
            num_samples += len(block)
    if not num_samples:
        raise AudioError(f"{path}: holds no samples")
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return Decoded(
        samples,
        stream.rate,
        num_samples,
        digest.hexdigest(),
        describe_not_finite(num_broken, num_samples, first_broken),
    )


def _check_file(file: Path) -> None:
    """Give the plain reasons their own sentence: libsndfile says "Format not recognised" to most of them."""
    try:
        status = file.stat()
        if stat.S_ISREG(status.st_mode):
            with file.open("rb"):
                pass
    except FileNotFoundError:
        raise AudioError(f"{file}: no such file") from None
    except PermissionError:
        raise AudioError(f"{file}: no permission to read it") from None
    # ValueError: a NUL in the path.
    except (OSError, ValueError) as error:
        raise AudioError(f"{file}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{file}: a folder, not an audio file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{file}: a pipe or a device, not an audio file")
    if status.st_size == 0:
        raise AudioError(f"{file}: empty (0 bytes)")
    if file.suffix.lower() == ".raw":
        raise AudioError(f"{file}: headerless samples, of which neither rate nor format is known; convert it to WAV")


def _explain(error: soundfile.LibsndfileError) -> str:
    # 1 is "Format not recognised", and 7 what bytes get that begin like an MP3 and are none ("... possibly a pipe?").
    if error.code in (1, 7):
        return "not an audio file, or in a format libsndfile does not know (convert it to WAV or FLAC)"
    reason = error.error_string.removeprefix("Error : ").rstrip(".")
    return f"damaged or cut short ({reason})"
