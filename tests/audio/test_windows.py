"""All windows of a clip that comes in blocks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spectra_jax.audio import pre_emphasis, prepare, prepare_windows, resample
from spectra_jax.errors import AudioError
from tests.audio.test_resampling import assert_same_bits, lengths_of_blocks, noise, split


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from([8000, 16_000, 44_100]),
    samples=st.integers(1, 60_000),
    lengths=lengths_of_blocks,
    num_samples=st.integers(1, 9000),
    hop=st.integers(1, 20_000),
)
def test_windows_are_cut_out_of_the_whole_clip(
    rate: int, samples: int, lengths: list[int], num_samples: int, hop: int
) -> None:
    """Windows may overlap, touch, or leave samples out between them."""
    hop = max(hop, samples // 200)  # so that they are not too many to look at
    clip = noise(samples)
    found = list(prepare_windows(split(clip, lengths), rate, hop=hop / 16_000, num_samples=num_samples))
    whole = pre_emphasis(resample(clip, rate))
    if len(whole) <= num_samples:
        assert len(found) == 1
        assert_same_bits(found[0], prepare(clip, rate, num_samples=num_samples))
    else:
        wanted = np.lib.stride_tricks.sliding_window_view(whole, num_samples)[::hop]
        assert_same_bits(np.stack(found), np.ascontiguousarray(wanted))
    assert_same_bits(found[0], prepare(clip, rate, num_samples=num_samples))


@pytest.mark.parametrize(("samples", "windows"), [(1, 1), (99, 1), (100, 1), (149, 1), (150, 2), (199, 2), (200, 3)])
def test_the_last_window_is_the_last_whole_one(samples: int, windows: int) -> None:
    found = list(prepare_windows(iter([noise(samples)]), 16_000, hop=50 / 16_000, num_samples=100))
    assert [window.shape for window in found] == [(100,)] * windows


def test_a_hop_below_one_sample_is_one_sample() -> None:
    assert len(list(prepare_windows(iter([noise(110)]), 16_000, hop=1e-9, num_samples=100))) == 11


def test_what_has_no_windows() -> None:
    with pytest.raises(AudioError, match="no samples"):
        list(prepare_windows(iter([]), 16_000, hop=1.0))
    loud = np.array([3e38, -3e38] * 200, np.float32)
    windows = prepare_windows(iter([noise(150), loud]), 16_000, hop=100 / 16_000, num_samples=100)
    assert len(next(windows)) == 100
    with pytest.raises(AudioError, match=r"once resampled and pre-emphasised \(values too large for float32\)"):
        next(windows)


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("hop", [10.0, 600.0])
def test_memory_does_not_grow_with_the_clip(rate: int, hop: float) -> None:
    """A clip of half an hour is 115 MB at 16 kHz, and 346 MB at 48 kHz."""
    seconds, block = 1800, noise(65_536)

    def blocks() -> Iterator[NDArray[np.float32]]:
        for _ in range(seconds * rate // len(block)):
            yield block

    tracemalloc.start()
    try:
        count = sum(1 for _ in prepare_windows(blocks(), rate, hop=hop))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count in (int(seconds / hop), int(seconds / hop) - 1)
    assert peak < 16e6
