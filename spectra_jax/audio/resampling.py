"""Resampling to the network's sample rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from spectra_jax.errors import AudioError

TARGET_RATE = 16_000
MIN_RATE, MAX_RATE = 1_000, 768_000
"""In Hz: the rates of recorders, with a margin on both sides. A rate outside is a mistake: kHz for Hz, or a length."""

# The default filter of scipy's resample_poly.
_FILTER_WINDOW = ("kaiser", 5.0)
# Its length to each side, in samples of the slower rate.
_FILTER_REACH = 10
_MIN_FILTERED = 1 << 18


def resample(
    audio: Float32[np.ndarray, " samples"], rate: int | float, target: int | float = TARGET_RATE
) -> Float32[np.ndarray, " resampled"]:
    """`scipy.signal.resample_poly` from `rate` to `target` Hz, by the smallest integer factors.

    Args:
      audio: (samples,) float32.
      rate: of `audio`, in Hz.
      target: in Hz.

    Returns:
      (ceil(samples * target / rate),) float32; `audio` itself where the rates are equal.

    Raises:
      AudioError: a rate that is not an integer from 1,000 to 768,000 Hz.
    """
    up, down = _factors(rate, target)
    if up == down:
        return audio
    # Imported here, since it takes a second, and clips at 16 kHz do not need it.
    from scipy import signal

    resampled: NDArray[np.float32] = signal.resample_poly(audio, up, down)
    return resampled


def resample_blocks(
    blocks: Iterable[NDArray[np.float32]], rate: int, target: int = TARGET_RATE, *, min_filtered: int = _MIN_FILTERED
) -> Iterator[NDArray[np.float32]]:
    """Resample a clip that is given in blocks, in memory that does not grow with its length.

    Args:
      blocks: (samples,) float32 each, of any lengths.
      rate: of the blocks, in Hz.
      target: in Hz.
      min_filtered: how many samples to collect before they are filtered, since each call copies the filter.

    Yields:
      (samples,) float32: joined, to the bit the `resample` of the joined blocks.

    Raises:
      AudioError: as in `resample`.
    """
    up, down = _factors(rate, target)
    if up == down:
        yield from blocks
        return
    from scipy import signal

    slower = max(up, down)
    taps = signal.firwin(2 * _FILTER_REACH * slower + 1, 1 / slower, window=_FILTER_WINDOW).astype(np.float32)

    def filtered(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        # scipy documents arrays as windows, its type stubs do not.
        resampled: NDArray[np.float32] = signal.resample_poly(samples, up, down, window=taps)  # type: ignore[call-overload]
        return resampled

    # The collected samples always begin at a multiple of `down`, where an output sample coincides with an input sample.
    # So each output sample is the sum of the same products in the same order, however the clip is divided.
    context = math.ceil((_FILTER_REACH * slower / up + 1) / down) * down
    # At an odd rate the filter is long.
    min_filtered = max(min_filtered, len(taps) // 4)
    pending: list[NDArray[np.float32]] = []
    num_pending = num_done = 0  # `num_done`: samples at the start that are kept as the filter's context
    for block in blocks:
        pending.append(block)
        num_pending += len(block)
        if num_pending < num_done + min_filtered + down + context:
            continue
        joined = np.concatenate(pending)
        ready = (num_pending - num_done - context) // down * down
        first = num_done // down * up
        yield filtered(joined)[first : first + ready // down * up]
        start = max(num_done + ready - context, 0)
        num_done += ready - start
        pending, num_pending = [joined[start:].copy()], num_pending - start
    if num_pending:
        yield filtered(np.concatenate(pending))[num_done // down * up :]


def _factors(rate: int | float, target: int | float) -> tuple[int, int]:
    """The smallest integers `up` and `down` with `rate * up / down == target`."""
    for name, value in (("sample rate", rate), ("target rate", target)):
        if not MIN_RATE <= value <= MAX_RATE or value != int(value):
            raise AudioError(f"{name} {value} is not a whole number of Hz from {MIN_RATE:,} to {MAX_RATE:,}")
    divisor = math.gcd(int(rate), int(target))
    return int(target) // divisor, int(rate) // divisor
