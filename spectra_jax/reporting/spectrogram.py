"""Spectrograms of recordings of any length, in bounded memory."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio import TARGET_RATE

FRAME = 512
"""Samples of a frame: 32 ms."""
# Samples from frame to frame: for recordings with few samples a frame for each column, for others half a frame.
_SHORTEST_HOP, _LONGEST_HOP = 16, FRAME // 2
_DECIBELS = 80
# Every 17th of the 256 colours of magma, by Nathaniel Smith and Stefan van der Walt (CC0).
_MAGMA = "0000040b092420114b3b0f7057157e721f818c2981a8327dc43c75de4968f1605dfa7f5efe9f6dfebf84fddea0fcfdbf"


class Spectrogram:
    """The spectrogram of a recording at 16 kHz, computed while its samples pass.

    Frames are centred: the first on the first sample, the last within a hop of the last sample. A column is the mean
    power of its frames.

    Args:
      num_samples: of the recording.
      columns: the largest number of columns.
    """

    def __init__(self, num_samples: int, columns: int):
        self._hop = int(np.clip(num_samples // columns, _SHORTEST_HOP, _LONGEST_HOP))
        self._num_frames = num_samples // self._hop + 1
        self._columns = min(columns, self._num_frames)
        self._power = np.zeros((self._columns, FRAME // 2 + 1))
        self._frames = np.zeros(self._columns)
        self._done = 0
        self._pending = np.zeros(FRAME // 2, np.float32)

    def add(self, samples: NDArray[np.floating]) -> None:
        """Add the samples that follow."""
        from scipy import signal

        joined = np.concatenate([self._pending, samples])
        frames = max((len(joined) - FRAME) // self._hop + 1, 0)
        self._pending = joined[frames * self._hop :]
        if not frames:
            return
        used = joined[: (frames - 1) * self._hop + FRAME]
        _, _, power = signal.spectrogram(used, TARGET_RATE, "hann", FRAME, FRAME - self._hop)
        indices = np.arange(self._done, self._done + frames)
        columns = np.minimum(indices * self._columns // self._num_frames, self._columns - 1)
        np.add.at(self._power, columns, power.T)
        np.add.at(self._frames, columns, 1)
        self._done += frames

    def png(self, width: int, height: int) -> bytes:
        """A PNG of what was added, 0 to 8 kHz from the bottom, 80 dB deep, 256 colours."""
        from PIL import Image

        self.add(np.zeros(FRAME // 2 + self._hop, np.float32))
        power = self._power / np.maximum(self._frames, 1)[:, None]
        level = 10 * np.log10(power.T + 1e-12)
        grey = np.clip((level - level.max() + _DECIBELS) / _DECIBELS, 0, 1)
        image = Image.fromarray(np.flipud(np.round(255 * grey).astype(np.uint8))).resize((width, height))
        image.putpalette(_palette().tobytes())
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        return file.getvalue()


def _palette() -> NDArray[np.uint8]:
    """256 colours of the map magma, (256, 3)."""
    anchors = np.frombuffer(bytes.fromhex(_MAGMA), np.uint8).reshape(-1, 3)
    positions = np.linspace(0, 255, len(anchors))
    channels = [np.interp(np.arange(256), positions, channel) for channel in anchors.T]
    return np.stack(channels, axis=1).round().astype(np.uint8)
