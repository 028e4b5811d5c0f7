"""What a page shows of a recording: its waveform and spectrogram, and its audio, in bounded memory and size.

All of it is of the recording at 16 kHz, mono, as the network's windows are, before pre-emphasis.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio import TARGET_RATE, InspectedBlocks
from spectra_jax.audio.resampling import resample_blocks
from spectra_jax.errors import AudioError
from spectra_jax.inference.decoding import open_trial
from spectra_jax.reporting.data_url import data_url
from spectra_jax.reporting.spectrogram import Spectrogram

if TYPE_CHECKING:
    from spectra_jax.data.trial import Trial

COLUMNS = 960
"""The largest number of columns of a waveform and of a spectrogram, whatever the recording's length."""
SPECTROGRAM_HEIGHT = 160
AUDIO_SECONDS = 1800.0
"""How much audio a page has, over all recordings: as MP3, 11 MB, in base64 14 MB."""
LOSSLESS_SECONDS = 180.0
"""Up to how much audio over all recordings it is FLAC, of at most 32 kB a second, and not MP3."""

Codec = Literal["FLAC", "MP3"]
# MP3 at 48 kbit/s, constant, since browsers seek inexactly in a variable rate.
_CODECS: dict[Codec, tuple[str, dict[str, Any]]] = {
    "FLAC": ("audio/flac", {"subtype": "PCM_16"}),
    "MP3": ("audio/mpeg", {"subtype": "MPEG_LAYER_III", "compression_level": 0.72, "bitrate_mode": "CONSTANT"}),
}
# libsndfile's encoders have failed on longer blocks.
_ENCODED_AT_ONCE = 8192


@dataclass(frozen=True)
class RecordingView:
    """What a page shows of a recording.

    Attributes:
      low, high: the lowest and the highest sample of each column, (columns,).
      spectrogram: a data URL.
      audio: a data URL; None where none is embedded.
      codec: of the audio.
      audio_seconds: how much of the recording `audio` has, from its start.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    spectrogram: str
    audio: str | None
    codec: Codec
    audio_seconds: float

    @property
    def peak(self) -> float:
        """The largest absolute value of a sample; 1 is full scale."""
        return float(max(-self.low.min(), self.high.max()))


def share_audio_seconds(lengths: Sequence[float], total: float) -> float:
    """The length at which each recording's audio is cut, so that all of them together have `total` seconds.

    Args:
      lengths: of the recordings, in seconds.
      total: seconds.
    """
    left = total
    for index, seconds in enumerate(sorted(lengths)):
        share = left / (len(lengths) - index)
        if seconds > share:
            return share
        left -= seconds
    return math.inf


def choose_codec(seconds: float) -> Codec:
    """The codec of a page with so much audio over all recordings; FLAC also where libsndfile was built without MP3."""
    import soundfile

    return "FLAC" if seconds <= LOSSLESS_SECONDS or "MP3" not in soundfile.available_formats() else "MP3"


def view_recording(
    trial: Trial, seconds: float, samples_sha256: str | None, audio_seconds: float, codec: Codec
) -> RecordingView:
    """Decode a recording again, for what a page shows of it.

    Args:
      trial: the recording.
      seconds: its length.
      samples_sha256: of its decoded samples, as a `spectra_jax.inference.detection.Detection` has it.
      audio_seconds: how much of it to embed; 0 for nothing.
      codec: of the embedded audio.

    Raises:
      AudioError: it cannot be decoded, or is not the one that was scored.
    """
    num_samples = max(math.ceil(seconds * TARGET_RATE), 1)
    envelope = _Envelope(num_samples, COLUMNS)
    spectrogram = Spectrogram(num_samples, COLUMNS)
    audio = None if audio_seconds <= 0 else _Encoder(codec, math.ceil(min(audio_seconds, seconds) * TARGET_RATE))
    with open_trial(trial) as stream:
        blocks = InspectedBlocks(stream, str(trial.path))
        for block in resample_blocks(blocks, stream.rate):
            envelope.add(block)
            spectrogram.add(block)
            if audio is not None:
                audio.add(block)
    if samples_sha256 is not None and blocks.sha256 != samples_sha256:
        raise AudioError(f"{trial.path}: has changed since it was scored")
    return RecordingView(
        envelope.low,
        envelope.high,
        data_url("image/png", spectrogram.png(COLUMNS, SPECTROGRAM_HEIGHT)),
        None if audio is None else audio.url(),
        codec,
        0.0 if audio is None else min(audio.num_samples / TARGET_RATE, seconds),
    )


class _Envelope:
    """The lowest and the highest sample of each column of a recording of `num_samples`."""

    def __init__(self, num_samples: int, columns: int):
        self._edges = np.linspace(0, num_samples, min(columns, num_samples) + 1).astype(np.int64)
        self.low = np.full(len(self._edges) - 1, np.inf, np.float32)
        self.high = np.full(len(self._edges) - 1, -np.inf, np.float32)
        self._done = 0

    def add(self, samples: NDArray[np.float32]) -> None:
        if not len(samples):
            return
        end = self._done + len(samples)
        inside = self._edges[(self._edges > self._done) & (self._edges < end)]
        starts = np.concatenate([[self._done], inside])
        # Resampling may add a sample to those that the last column expects.
        columns = np.minimum(np.searchsorted(self._edges, starts, "right") - 1, len(self.low) - 1)
        np.minimum.at(self.low, columns, np.minimum.reduceat(samples, starts - self._done))
        np.maximum.at(self.high, columns, np.maximum.reduceat(samples, starts - self._done))
        self._done = end


class _Encoder:
    """The first `wanted` samples of a recording, encoded while they pass."""

    def __init__(self, codec: Codec, wanted: int):
        import soundfile

        self._media_type, settings = _CODECS[codec]
        self._file = io.BytesIO()
        self._sound = soundfile.SoundFile(self._file, "w", TARGET_RATE, 1, format=codec, **settings)
        self._wanted = wanted
        self.num_samples = 0

    def add(self, samples: NDArray[np.float32]) -> None:
        samples = np.clip(samples[: self._wanted - self.num_samples], -1, 1)
        for start in range(0, len(samples), _ENCODED_AT_ONCE):
            self._sound.write(samples[start : start + _ENCODED_AT_ONCE])
        self.num_samples += len(samples)

    def url(self) -> str:
        self._sound.close()
        return data_url(self._media_type, self._file.getvalue())
