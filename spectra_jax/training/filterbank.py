"""A first convolution that is initialised as a bank of band-pass filters."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray
from scipy import signal

_LOWEST_HZ = 60.0


def filterbank(
    windows: Float32[np.ndarray, "n samples"],
    taps: int,
    channels: int,
    stride: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "taps 1 channels"]:
    """The kernel (taps, 1, channels) of a convolution: Hann-windowed cosines, evenly spaced on the mel scale.

    Each filter is scaled so that its output on `windows` has a root mean square of one. Otherwise the loud bands would
    mask the quiet ones, in which many artefacts of vocoders are.

    Args:
      windows: (n, samples), some training windows, prepared for the network.
      taps, channels, stride: of the convolution.
      sample_rate: in Hz.
      rng: draws the cosines' phases.

    Source of the idea: learnable front-ends that start from Gabor filters, such as Zeghidour et al., "LEAF" (2021).
    """
    lowest, highest = 2595 * np.log10(1 + np.array([_LOWEST_HZ, 0.975 * sample_rate / 2]) / 700)
    mel = np.linspace(lowest, highest, channels)
    frequency = 700 * (10 ** (mel / 2595) - 1)
    time = (np.arange(taps) - taps / 2) / sample_rate
    kernel = np.cos(2 * np.pi * frequency * time[:, None] + rng.uniform(0, 2 * np.pi, channels))
    kernel *= np.hanning(taps + 2)[1:-1, None]
    # A convolution layer computes a correlation: `oaconvolve` needs the filters reversed.
    outputs = (signal.oaconvolve(windows, taps[::-1][None], mode="valid", axes=1)[:, ::stride] for taps in kernel.T)
    power = np.array([np.mean(np.square(output, dtype=np.float64)) for output in outputs])
    scaled: NDArray[np.float32] = (kernel / np.sqrt(np.maximum(power, 1e-12)))[:, None].astype(np.float32)
    return scaled
