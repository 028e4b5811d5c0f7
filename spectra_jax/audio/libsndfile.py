"""Decoding by libsndfile: WAV, FLAC, AIFF, Ogg and the older formats of uncompressed samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import soundfile  # type: ignore[import-untyped]
from numpy.typing import NDArray

from spectra_jax.audio.samples import to_mono
from spectra_jax.audio.source import View
from spectra_jax.errors import AudioError, UnsupportedCodecError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# libsndfile's number of this error.
_UNSUPPORTED_ENCODING = 4
# What libsndfile calls the length of a FLAC or an Ogg stream that states none.
_UNKNOWN_FRAMES = 1 << 62

_UNKNOWN_FRAMES = 1 << 62


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from its start to its end, whatever its header says of its length.

    soundfile seeks after every read of a seekable file. In a FLAC that came through a pipe, without a length in its
    header, and in GSM 6.10 and several kinds of ADPCM that fails.
    """

    def seekable(self) -> bool:
        return False


class _Input:
    """A file as libsndfile reads it, which takes one that can no longer be read for one that ends.

    Errors in its callbacks would be printed, and lost.
    """

    def __init__(self, file: View) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._file = file
        self._failure: OSError | None = None

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            self._failure = error
            return 0

    def raise_failure(self) -> None:
        """Raises OSError: the file could not be read to its end."""
        if self._failure is not None:
            raise self._failure


class LibsndfileReader:
    """A recording that libsndfile decodes.

    Args:
      file: open at any position.
      total: samples per channel that the header states, where bytes that are no audio may follow them.
      md5: of all samples as integers, if the header states it. libFLAC returns silence for frames that are missing.
      bits: of each of these integers.

    Raises:
      UnsupportedCodecError: libsndfile lacks its codec.
      AudioError: libsndfile cannot open it for another reason.
      OSError: the file cannot be read, here or from the blocks.
    """

    def __init__(self, file: View, total: int | None = None, *, md5: bytes | None = None, bits: int = 16) -> None:
        self._input = _Input(file)
        try:
            self._sound = _SoundFile(self._input)
        except soundfile.LibsndfileError as error:
            self._input.raise_failure()
            kind = UnsupportedCodecError if error.code == _UNSUPPORTED_ENCODING else AudioError
            raise kind(_explain(error)) from error
        self.rate = int(self._sound.samplerate)
        # libsndfile reports a length near the largest number where the header states none.
        frames = int(self._sound.frames)
        self.expected_samples = total or (frames if 0 < frames < _UNKNOWN_FRAMES else None)
        self._total = total
        # Floats hold integers of 24 bits, and no more.
        self._md5 = md5 if bits <= 24 else None
        self._bits = bits

    def close(self) -> None:
        self._sound.close()

    def blocks(self, block_samples: int) -> Iterator[NDArray[np.float32]]:
        """Mono samples, `block_samples` over all channels at a time."""
        frames = max(block_samples // self._sound.channels, 1)
        done = 0
        digest = hashlib.md5(usedforsecurity=False)
        try:
            while len(block := self._read(frames if self._total is None else min(frames, self._total - done))):
                if self._md5:
                    digest.update(_as_integers(block, self._bits))
                yield to_mono(block)
                done += len(block)
        except soundfile.LibsndfileError as error:
            self._input.raise_failure()
            raise AudioError(_explain(error)) from error
        self._input.raise_failure()
        if self._total is not None:
            if done < self._total:
                raise AudioError(f"cut short: {done:,} of the {self._total:,} samples that its header states")
            if self._has_more():
                raise AudioError(
                    f"more samples than the {self._total:,} that its header states: several files in one, or damaged"
                )
        elif done < self._sound.frames < _UNKNOWN_FRAMES:
            raise AudioError(f"cut short: {done:,} of the {self._sound.frames:,} samples that its header states")
        if self._md5 and digest.digest() != self._md5:
            raise AudioError("damaged: its samples do not match the checksum (MD5) that its header states")

    def _read(self, frames: int) -> NDArray[np.float32]:
        if frames == 0:
            return np.zeros((0, self._sound.channels), np.float32)
        return self._sound.read(frames, dtype="float32", always_2d=True)

    def _has_more(self) -> bool:
        """Whether samples can be decoded after the last one. Twice: the decoder reports what it cannot use once."""
        for _ in range(2):
            try:
                return len(self._read(1)) > 0
            except soundfile.LibsndfileError:
                continue
        return False


def _as_integers(block: NDArray[np.float32], bits: int) -> bytes:
    """Samples as the bytes of which a FLAC states the checksum: little-endian, in whole bytes."""
    scaled = np.rint(block * np.float32(2 ** (bits - 1)))
    if bits <= 16:
        return scaled.astype("<i2" if bits > 8 else "i1").tobytes()
    return scaled.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def _explain(error: soundfile.LibsndfileError) -> str:
    # 1 is "Format not recognised".
    if error.code == 1:
        return "not an audio file, or in a format libsndfile does not know (convert it to WAV or FLAC)"
    reason = error.error_string.removeprefix("Error : ").rstrip(".")
    return f"damaged or cut short ({reason})"
