"""From a clip's sample rate to the network's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio.errors import AudioError

TARGET_RATE = 16_000
# What recorders are built for, with a margin on both sides. Outside it a rate is a mistake: kHz for Hz, or a length.
MIN_RATE, MAX_RATE = 1_000, 768_000


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
