"""Clips, and the blocks that they are divided into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def split(clip: NDArray[np.float32], lengths: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """The clip in blocks of the given lengths, over and over; one of them is above 0."""
    start = 0
    while start < len(clip):
        for length in lengths:
            yield clip[start : start + length]
            start += length


def joined(blocks: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([np.empty(0, np.float32), *blocks])


def assert_same_bits(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    assert found.dtype == wanted.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.int32), wanted.view(np.int32))


lengths_of_blocks = st.lists(st.integers(0, 40_000), min_size=1, max_size=5).filter(any)
