"""From a clip's sample rate to the network's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spectra_jax.errors import AudioError

TARGET_RATE = 16_000
# What recorders are built for, with a margin on both sides. Outside it a rate is a mistake: kHz for Hz, or a length.
MIN_RATE, MAX_RATE = 1_000, 768_000

# The filter that scipy's resample_poly designs where it is given none.
_WINDOW = ("kaiser", 5.0)
# How far it reaches to both sides, in samples of the slower rate.
_REACH = 10
# Samples that `resample_blocks` filters at once, at least.
_PIECE = 1 << 18


def resample(audio: NDArray[np.float32], rate: int, target: int = TARGET_RATE) -> NDArray[np.float32]:
    """`scipy.signal.resample_poly` from `rate` to `target` Hz, by the smallest whole factors.

    Args:
      audio: (samples,) float32.
      rate: of `audio`, in Hz.
      target: wanted, in Hz.

    Returns:
      (ceil(samples * target / rate),) float32; `audio` itself where the rates are equal.

    Raises:
      AudioError: a rate that is not a whole number from 1,000 to 768,000 Hz.
    """
    up, down = _factors(rate, target)
    if up == down:
        return audio
    # Here, since it takes a second to import and clips at 16 kHz need none of it.
    from scipy import signal

    resampled: NDArray[np.float32] = signal.resample_poly(audio, up, down)
    return resampled


def resample_blocks(
    blocks: Iterable[NDArray[np.float32]], rate: int, target: int = TARGET_RATE
) -> Iterator[NDArray[np.float32]]:
    """Resample a clip that comes in blocks, in memory that does not grow with its length.

    Args:
      blocks: (samples,) float32 each, of any lengths.
      rate: of the blocks, in Hz.
      target: wanted, in Hz.

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
    taps = signal.firwin(2 * _REACH * slower + 1, 1 / slower, window=_WINDOW).astype(np.float32)

    def filtered(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        # scipy's documentation has arrays as windows, its stubs have not.
        return signal.resample_poly(samples, up, down, window=taps)  # type: ignore[call-overload]

    # Every piece begins at a multiple of `down` samples, where an output sample lies on an input sample. So each output
    # sample is the sum of the same products in the same order, whichever piece it comes from.
    context = math.ceil((_REACH * slower / up + 1) / down) * down
    # Each call copies the filter, which at an odd rate is long.
    piece = max(_PIECE, len(taps) // 4)
    held: list[NDArray[np.float32]] = []
    num_held = past = 0  # `past`: samples at the start that are there for the filter alone
    for block in blocks:
        held.append(block)
        num_held += len(block)
        if num_held < past + piece + down + context:
            continue
        joined = np.concatenate(held)
        ready = (num_held - past - context) // down * down
        first = past // down * up
        yield filtered(joined)[first : first + ready // down * up]
        start = max(past + ready - context, 0)
        past += ready - start
        held, num_held = [joined[start:].copy()], num_held - start
    if num_held:
        yield filtered(np.concatenate(held))[past // down * up :]


def _factors(rate: int, target: int) -> tuple[int, int]:
    """The smallest whole numbers `up` and `down` with `rate * up / down == target`."""
    for name, value in (("sample rate", rate), ("target rate", target)):
        if not MIN_RATE <= value <= MAX_RATE or value != int(value):
            raise AudioError(f"{name} {value} is not a whole number of Hz from {MIN_RATE:,} to {MAX_RATE:,}")
    divisor = math.gcd(int(rate), int(target))
    return int(target) // divisor, int(rate) // divisor
