"""From a file, or an array as decoded, to the window of samples that the network hears.

    decode -> mono -> 16 kHz -> pre-emphasis over the whole clip -> the first 64,600 samples

    audio, sample_rate = read("clip.flac")
    samples = prepare(audio, sample_rate)       # (64600,) float32

Everything here is numpy on the host, and on purpose: pre-emphasis must round its product before it subtracts, which a
compiler that fuses the two into one instruction does not. There is no waveform normalisation: loudness is kept.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray

TARGET_RATE = 16_000
NUM_SAMPLES = 64_600
PREEMPHASIS = 0.97

# What recorders are built for, with room on both sides. Outside it a rate is a mistake: kHz for Hz, or a length.
MIN_RATE, MAX_RATE = 1_000, 768_000
# The most that libsndfile handles; more "channels" than that are samples.
MAX_CHANNELS = 1024

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

_FULL_SCALE = {np.dtype(np.int8): 2.0**7, np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


class AudioError(ValueError):
    """A clip that cannot be scored. Says what was wrong with the file or the values."""


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


def decode(path: str | os.PathLike[str], content: bytes | None = None, *, keep_seconds: float = math.inf) -> Decoded:
    """Decode an audio file to its end, a megabyte at a time, keeping its start: see `read`.

    Args:
      path: of the file, or, with `content`, what messages call it.
      content: the file's bytes, where it is not to be read from its path.
      keep_seconds: how much of the start to keep. No header is believed: memory grows with what is kept alone.

    Raises:
      AudioError: as in `read`; or decoding takes longer than five minutes.
    """
    if content is not None:
        name = str(path)
        if not content:
            raise AudioError(f"{name}: empty (0 bytes)")
        return _decode(io.BytesIO(content), name, keep_seconds)
    file = Path(path)
    _check_file(file)
    # As bytes, since soundfile fails on a file name that is not UTF-8; on Windows every name is text.
    return _decode(os.fsencode(file) if os.name == "posix" else file, str(file), keep_seconds)


def _decode(source: bytes | Path | io.BytesIO, file: str, keep_seconds: float) -> Decoded:
    begun = time.monotonic()
    digest = hashlib.sha256()
    blocks: list[NDArray[np.float32]] = []
    num_samples = num_broken = 0
    first_broken = ""
    try:
        with _Stream(source) as sound:
            # From the first sample, as soundfile.read does: libsndfile decodes an MP3 with other last bits without it.
            sound.seek(0)
            rate = int(sound.samplerate)
            keep = keep_seconds * rate
            frames = max(_BLOCK_SAMPLES // sound.channels, 1)
            while len(block := sound.read(frames, dtype="float32", always_2d=True)):
                mono = to_mono(block)
                digest.update(np.ascontiguousarray(mono, "<f4").data)
                if len(broken := np.flatnonzero(~np.isfinite(mono))):
                    if not num_broken:
                        first_broken = f"sample {num_samples + broken[0]} ({mono[broken[0]]})"
                    num_broken += len(broken)
                if num_samples < keep:
                    blocks.append(mono[: math.ceil(min(keep - num_samples, len(mono)))])
                num_samples += len(mono)
                if time.monotonic() - begun > _DECODE_SECONDS:
                    raise AudioError(f"{file}: not decoded after {_DECODE_SECONDS} s; cut it into shorter files")
            promise = _PROMISE.search(sound.extra_info)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{file}: {_explain(error)}") from error
    if promise:
        promised, held = int(promise[1]), int(promise[2])
        if held + _HEADER_BYTES < promised < _UNKNOWN_BYTES:
            raise AudioError(f"{file}: cut short: {held:,} of the {promised:,} bytes of samples its header promises")
    if not blocks:
        raise AudioError(f"{file}: holds no samples")
    samples = np.concatenate(blocks)
    return Decoded(samples, rate, num_samples, digest.hexdigest(), _not_finite(num_broken, num_samples, first_broken))


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


def _as_float32(audio: ArrayLike) -> NDArray[np.float32]:
    values = np.asarray(audio)
    if values.dtype.kind == "f":
        # Values beyond float32 become infinite here and are refused as such by `prepare`.
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False)
    dtype = values.dtype.newbyteorder("=")
    if dtype in _FULL_SCALE:
        return (values / _FULL_SCALE[dtype]).astype(np.float32)
    if dtype == np.uint8:
        return ((values.astype(np.float32) - 128) / 128).astype(np.float32)
    raise AudioError(f"samples of type {values.dtype} have no agreed full scale: give floats, or 8, 16 or 32-bit PCM")


def to_mono(audio: ArrayLike) -> NDArray[np.float32]:
    """Average the channels; a single channel is handed on as it is.

    Args:
      audio: (samples,) or (samples, channels). Floats are full scale at 1; int8, int16, int32 and uint8 are PCM, and
        come out divided by 2**7, 2**15, 2**31 or, less 128, by 128. 24-bit samples belong in the upper 24 bits of an
        int32, where decoders put them.

    Returns:
      (samples,) float32; not always a copy.

    Raises:
      AudioError: another shape or type, or (channels, samples) the wrong way round.
    """
    values = _as_float32(audio)
    if values.ndim == 1:
        return values
    if values.ndim != 2:
        raise AudioError(f"audio of shape {values.shape}: expected (samples,) or (samples, channels)")
    channels = values.shape[1]
    if channels > MAX_CHANNELS:
        raise AudioError(f"audio of shape {values.shape} has {channels:,} channels: is it (channels, samples)?")
    if channels == 0:
        raise AudioError(f"audio of shape {values.shape} has no channel")
    if channels == 1:
        return values[:, 0]
    # Sums beyond float32 become infinite, and infinities of both signs NaN: both are refused by `prepare`.
    with np.errstate(over="ignore", invalid="ignore"):
        return values.mean(axis=1, dtype=np.float32)


def resample(audio: NDArray[np.float32], rate: int, target: int = TARGET_RATE) -> NDArray[np.float32]:
    """`scipy.signal.resample_poly` from `rate` to `target` Hz, by the smallest whole factors.

    Args:
      audio: (samples,) float32.
      rate: of `audio`, in Hz.
      target: wanted, in Hz.

    Returns:
      (ceil(samples * target / rate),) float32; `audio` itself where the rates are equal.

    Raises:
      AudioError: a rate that is no whole number from 1,000 to 768,000 Hz.
    """
    for name, value in (("sample rate", rate), ("target rate", target)):
        if not MIN_RATE <= value <= MAX_RATE or value != int(value):
            raise AudioError(f"{name} {value} is no whole number of Hz from {MIN_RATE:,} to {MAX_RATE:,}")
    if rate == target:
        return audio
    # Here, since it takes a second to import and clips at 16 kHz need none of it.
    from scipy import signal

    divisor = math.gcd(int(rate), int(target))
    resampled: NDArray[np.float32] = signal.resample_poly(audio, int(target) // divisor, int(rate) // divisor)
    return resampled


def pre_emphasis(audio: NDArray[np.float32], coefficient: float = PREEMPHASIS) -> NDArray[np.float32]:
    """`y[0] = x[0]`, `y[n] = x[n] - coefficient * x[n-1]`, in float32, the product rounded before the subtraction.

    Args:
      audio: (samples,) float32: the whole clip, before any cut. It is left as it is.
      coefficient: rounded to float32.

    Returns:
      (samples,) float32, a new array.
    """
    emphasised = np.array(audio, dtype=np.float32)
    # Two steps, so two roundings: numpy finishes the product's array before it subtracts.
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.float32(coefficient) * emphasised[:-1]
        emphasised[1:] -= product
    return emphasised


def window(audio: NDArray[np.float32], num_samples: int = NUM_SAMPLES) -> NDArray[np.float32]:
    """The first `num_samples` samples; a shorter clip is repeated until it is long enough, and cut.

    Args:
      audio: (samples,) float32.
      num_samples: wanted; at least 1.

    Returns:
      (num_samples,) float32, a new array: a view would hold on to the whole clip.

    Raises:
      AudioError: no samples to repeat.
    """
    if num_samples < 1:
        raise ValueError(f"a window of {num_samples} samples")
    if len(audio) == 0:
        raise AudioError("no samples")
    if len(audio) >= num_samples:
        return audio[:num_samples].copy()
    return np.tile(audio, num_samples // len(audio) + 1)[:num_samples]


def prepare(
    audio: ArrayLike,
    sample_rate: int,
    *,
    num_samples: int = NUM_SAMPLES,
    preemphasis: float = PREEMPHASIS,
    target_rate: int = TARGET_RATE,
) -> NDArray[np.float32]:
    """The whole way from a clip as decoded to what the network takes.

    NaN and infinite samples are looked for in the whole clip, not only in the part that is heard, and before it is
    resampled, which would smear one of them over its neighbours.

    Args:
      audio: (samples,) or (samples, channels), floats or integer PCM as `to_mono` takes them; left as it is.
      sample_rate: of `audio`, in Hz.
      num_samples: length of the window at `target_rate`.
      preemphasis: coefficient of `pre_emphasis`.
      target_rate: in Hz.

    Returns:
      (num_samples,) float32, a new array, all finite.

    Raises:
      AudioError: no samples, NaN or infinite samples, an impossible rate, shape or type.
    """
    mono = to_mono(audio)
    if len(mono) == 0:
        raise AudioError("no samples")
    _check_finite(mono, "")
    samples = window(pre_emphasis(resample(mono, sample_rate, target_rate), preemphasis), num_samples)
    _check_finite(samples, " once resampled and pre-emphasised (values too large for float32)")
    return samples


def _check_finite(audio: NDArray[np.float32], when: str) -> None:
    broken = np.flatnonzero(~np.isfinite(audio))
    if len(broken):
        raise AudioError(_not_finite(len(broken), len(audio), f"sample {broken[0]} ({audio[broken[0]]})", when))


def _not_finite(num_broken: int, num_samples: int, first: str, when: str = "") -> str | None:
    if not num_broken:
        return None
    return f"{num_broken:,} of {num_samples:,} samples are NaN or infinite{when}; the first is {first}"


def is_silent(audio: NDArray[np.floating]) -> bool:
    """Whether every sample is zero: digital silence. Such a clip gets a score like any other, one that means nothing.

    Give it the window that `prepare` returns: that is all the network hears, however loud the rest of the clip.
    Pre-emphasis makes zeros of zeros and of nothing else, so before and after it the answer is the same. A constant
    offset and the faint noise of a quiet room are no digital silence.
    """
    return not np.any(audio)
