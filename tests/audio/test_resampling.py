"""Resampling and pre-emphasis of a clip that comes in blocks: the same bits as of the whole clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from spectra_jax.audio import pre_emphasis, resample
from spectra_jax.audio.preemphasis import pre_emphasise_blocks
from spectra_jax.audio.resampling import resample_blocks
from spectra_jax.errors import AudioError

RATES = (8000, 11025, 12345, 16000, 22050, 44100, 48000, 96000, 192000)


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


@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=15, deadline=None)
@given(samples=st.integers(1, 120_000), lengths=lengths_of_blocks, piece=st.sampled_from([1, 1000, 1 << 18]))
def test_blocks_resample_to_the_bits_of_the_whole(rate: int, samples: int, lengths: list[int], piece: int) -> None:
    clip = noise(samples)
    divisor = math.gcd(rate, 16_000)
    wanted = clip if rate == 16_000 else signal.resample_poly(clip, 16_000 // divisor, rate // divisor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spectra_jax.audio.resampling._PIECE", piece)
        found = joined(resample_blocks(split(clip, lengths), rate))
    assert len(found) == math.ceil(samples * 16_000 / rate)
    assert_same_bits(found, wanted)


@pytest.mark.parametrize(("rate", "target"), [(44_101, 16_000), (15_999, 16_000), (1_000, 16_000), (16_000, 48_000)])
def test_blocks_of_odd_rates(rate: int, target: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The factors are as large as the rates: a clip has few samples at which a piece can begin."""
    monkeypatch.setattr("spectra_jax.audio.resampling._PIECE", 1)
    clip = noise(7 * rate + 123)
    assert_same_bits(joined(resample_blocks(split(clip, [rate // 3]), rate, target)), resample(clip, rate, target))


def test_blocks_of_nothing_and_of_impossible_rates() -> None:
    assert list(resample_blocks(iter([]), 44_100)) == []
    with pytest.raises(AudioError, match="sample rate 44 is not a whole number of Hz"):
        list(resample_blocks(iter([noise(10)]), 44))


@given(samples=st.integers(0, 3000), lengths=lengths_of_blocks)
def test_blocks_are_pre_emphasised_to_the_bits_of_the_whole(samples: int, lengths: list[int]) -> None:
    clip = noise(samples)
    before = clip.copy()
    assert_same_bits(joined(pre_emphasise_blocks(split(clip, lengths))), pre_emphasis(clip))
    assert_same_bits(clip, before)
