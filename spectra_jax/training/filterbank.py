"""A first layer that hears frequencies before it has learnt anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal

_LOWEST = 60.0


def filterbank(
    windows: NDArray[np.float32], taps: int, channels: int, stride: int, sample_rate: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The kernel (taps, 1, channels) of a convolution: Hann-windowed cosines, evenly spaced on the mel scale.

    Each is scaled so that its output on `windows` has a root mean square of one: without that the quiet bands, where
    much of what gives a vocoder away is, would be lost below the loud ones.

    Args:
      windows: (n, samples), some training windows as the network gets them.
      taps, channels, stride: of the convolution.
      sample_rate: in Hz.
      rng: draws the cosines' phases.

    Source of the idea: learnable front-ends that start from Gabor filters, such as Zeghidour et al., "LEAF" (2021).
    """
    lowest, highest = 2595 * np.log10(1 + np.array([_LOWEST, 0.975 * sample_rate / 2]) / 700)
    mel = np.linspace(lowest, highest, channels)
    frequency = 700 * (10 ** (mel / 2595) - 1)
    time = (np.arange(taps) - taps / 2) / sample_rate
    kernel = np.cos(2 * np.pi * frequency * time[:, None] + rng.uniform(0, 2 * np.pi, channels))
    kernel *= np.hanning(taps + 2)[1:-1, None]
    # A convolution layer correlates: filters are laid over the samples as they are.
    answers = (signal.oaconvolve(windows, one[::-1][None], mode="valid", axes=1)[:, ::stride] for one in kernel.T)
    power = np.array([np.mean(np.square(answer, dtype=np.float64)) for answer in answers])
    return (kernel / np.sqrt(np.maximum(power, 1e-12)))[:, None].astype(np.float32)
