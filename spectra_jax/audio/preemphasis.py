"""Pre-emphasis: the first-order high-pass filter that the network was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

PREEMPHASIS = 0.97


def pre_emphasis(
    audio: Float32[np.ndarray, " samples"], coefficient: float = PREEMPHASIS
) -> Float32[np.ndarray, " samples"]:
    """`y[0] = x[0]`, `y[n] = x[n] - coefficient * x[n-1]`, in float32, the product rounded before the subtraction.

    Args:
      audio: (samples,) float32: the complete clip, before any cut. It is not changed.
      coefficient: rounded to float32.

    Returns:
      (samples,) float32, a new array.
    """
    emphasised = np.array(audio, dtype=np.float32)
    # Two steps, so that both are rounded: numpy stores the product before it subtracts.
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.float32(coefficient) * emphasised[:-1]
        emphasised[1:] -= product
    return emphasised


def pre_emphasise_blocks(
    blocks: Iterable[NDArray[np.float32]], coefficient: float = PREEMPHASIS
) -> Iterator[NDArray[np.float32]]:
    """`pre_emphasis` of a clip that is given in blocks (samples,) of any lengths: joined, the same to the bit."""
    last: NDArray[np.float32] = np.empty(0, np.float32)
    for block in blocks:
        emphasised = pre_emphasis(np.concatenate([last, block]), coefficient)[len(last) :]
        last = block[-1:].copy() if len(block) else last
        yield emphasised
