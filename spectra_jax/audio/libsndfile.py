"""Decoding by libsndfile: WAV, FLAC, AIFF, Ogg and the older formats of uncompressed samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from numpy.typing import NDArray

from spectra_jax.audio.containers.stream import LibsndfileOptions
from spectra_jax.audio.samples import to_mono
from spectra_jax.audio.source import SplicedFile
from spectra_jax.errors import AudioError, UnsupportedCodecError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# libsndfile's numbers of its errors.
_UNRECOGNISED_FORMAT, _UNSUPPORTED_ENCODING = 1, 4
# libsndfile reports a length near the largest number for a FLAC or an Ogg stream that states none.
_UNKNOWN_FRAMES = 1 << 62
# A float32 holds integers of so many bits exactly.
_MAX_MD5_BITS = 24


class _SequentialSoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from its start to its end, whatever length its header states.

    soundfile seeks after every read of a seekable file. That fails in a FLAC that came through a pipe, without a length
    in its header, and in GSM 6.10 and several kinds of ADPCM.
    """

    def seekable(self) -> bool:
        return False


class _Input:
    """A file as libsndfile reads it. One that cannot be read further looks like one that ends.

    libsndfile would print an error that its callbacks raise, and lose it.
    """

    def __init__(self, file: SplicedFile) -> None:
        self.seek, self.tell = file.seek, file.tell
        self._file = file
        self._error: OSError | None = None

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            self._error = error
            return 0

    def raise_error(self) -> None:
        """Raise OSError if the file could not be read to its end."""
        if self._error is not None:
            raise self._error


class LibsndfileReader:
    """A recording that libsndfile decodes.

    Args:
      file: open at its start.
      options: see `LibsndfileOptions`.

    Attributes:
      rate: in Hz.
      expected_samples: per channel, as the header states them; None if it does not.

    Raises:
      UnsupportedCodecError: libsndfile does not support its codec.
      AudioError: libsndfile cannot open it for another reason.
      OSError: the file cannot be read; also raised by the blocks.
    """

    def __init__(self, file: SplicedFile, options: LibsndfileOptions) -> None:
        self._input = _Input(file)
        try:
            self._sound = _SequentialSoundFile(self._input)
        except soundfile.LibsndfileError as error:
            self._input.raise_error()
            kind = UnsupportedCodecError if error.code == _UNSUPPORTED_ENCODING else AudioError
            raise kind(_describe_error(error)) from error
        self.rate = int(self._sound.samplerate)
        frames = int(self._sound.frames)
        self.expected_samples = options.num_samples or (frames if 0 < frames < _UNKNOWN_FRAMES else None)
        self._num_samples = options.num_samples
        self._md5 = options.md5 if options.bits <= _MAX_MD5_BITS else None
        self._bits = options.bits

    def close(self) -> None:
        self._sound.close()

    def blocks(self, block_samples: int) -> Iterator[NDArray[np.float32]]:
        """Mono samples, at most `block_samples` over all channels at a time.

        Raises:
          AudioError: cut short or damaged, at the latest after the last block.
        """
        frames = max(block_samples // self._sound.channels, 1)
        decoded = 0
        digest = hashlib.md5(usedforsecurity=False)
        try:
            while len(block := self._read(self._next_frames(frames, decoded))):
                if self._md5:
                    digest.update(_as_integers(block, self._bits))
                yield to_mono(block)
                decoded += len(block)
        except soundfile.LibsndfileError as error:
            self._input.raise_error()
            raise AudioError(_describe_error(error)) from error
        self._input.raise_error()
        self._check_length(decoded)
        if self._md5 and digest.digest() != self._md5:
            raise AudioError("damaged: its samples do not match the checksum (MD5) that its header states")

    def _next_frames(self, frames: int, decoded: int) -> int:
        return frames if self._num_samples is None else min(frames, self._num_samples - decoded)

    def _check_length(self, decoded: int) -> None:
        """Raise AudioError unless as many samples per channel were decoded as the header states."""
        stated = self._num_samples
        if stated is None:
            stated = int(self._sound.frames) if self._sound.frames < _UNKNOWN_FRAMES else decoded
        if decoded < stated:
            raise AudioError(f"cut short: {decoded:,} of the {stated:,} samples that its header states")
        if self._num_samples is not None and self._has_more():
            raise AudioError(
                f"more samples than the {stated:,} that its header states: several files in one, or damaged"
            )

    def _read(self, frames: int) -> NDArray[np.float32]:
        if frames == 0:
            return np.zeros((0, self._sound.channels), np.float32)
        block: NDArray[np.float32] = self._sound.read(frames, dtype="float32", always_2d=True)
        return block

    def _has_more(self) -> bool:
        """Whether samples follow the last one. Tried twice: the decoder reports damage once, and then continues."""
        for _ in range(2):
            try:
                return len(self._read(1)) > 0
            except soundfile.LibsndfileError:
                continue
        return False


def _as_integers(block: NDArray[np.float32], bits: int) -> bytes:
    """The bytes whose checksum a FLAC states: little-endian integers, each of the fewest bytes that hold its bits."""
    scaled = np.rint(block * np.float32(2 ** (bits - 1)))
    if bits <= 16:
        return bytes(scaled.astype("<i2" if bits > 8 else "i1").tobytes())
    return bytes(scaled.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes())


def _describe_error(error: soundfile.LibsndfileError) -> str:
    if error.code == _UNRECOGNISED_FORMAT:
        return "not an audio file, or in a format that libsndfile does not know (convert it to WAV or FLAC)"
    reason = error.error_string.removeprefix("Error : ").rstrip(".")
    return f"damaged or cut short ({reason})"
