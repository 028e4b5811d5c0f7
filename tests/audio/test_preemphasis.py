"""Pre-emphasis, of a complete clip and of one in blocks."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from spectra_jax.audio import pre_emphasis, prepare
from spectra_jax.audio.preemphasis import pre_emphasise_blocks
from tests.audio.blocks import assert_same_bits, joined, lengths_of_blocks, noise, split

samples = arrays(np.float32, st.integers(1, 300), elements=st.floats(-1, 1, width=32))


def test_pre_emphasis_rounds_the_product_before_the_subtraction() -> None:
    audio = noise(4000)
    expected = [audio[0]]
    for previous, sample in itertools.pairwise(audio):
        product = np.float32(np.float32(0.97) * previous)
        expected.append(np.float32(sample - product))
    emphasised = pre_emphasis(audio)
    np.testing.assert_array_equal(emphasised.view(np.uint32), np.array(expected, np.float32).view(np.uint32))
    # One rounding, as a fused multiply-add has it: the product of two float32 is exact in float64.
    wide = audio.astype(np.float64)
    fused = (wide[1:] - np.float64(np.float32(0.97)) * wide[:-1]).astype(np.float32)
    assert 0.2 < np.mean(fused != emphasised[1:]) < 0.8


@settings(max_examples=50, deadline=None)
@given(samples)
def test_pre_emphasis_keeps_length_and_first_sample_and_leaves_its_input(audio: NDArray[np.float32]) -> None:
    before = audio.copy()
    emphasised = pre_emphasis(audio)
    assert (emphasised.shape, emphasised.dtype, emphasised[0]) == (audio.shape, np.dtype(np.float32), audio[0])
    assert not np.shares_memory(emphasised, audio)
    np.testing.assert_array_equal(audio, before)
    np.testing.assert_array_equal(pre_emphasis(audio, 0.0), audio)


def test_pre_emphasis_is_applied_before_a_clip_is_repeated() -> None:
    # Where a short clip is repeated, its first sample is unchanged: the clip's last sample is not subtracted from it.
    audio = noise(300)
    tiled = prepare(audio, 16000, num_samples=1000)
    assert tiled[300] == tiled[600] == audio[0]
    np.testing.assert_array_equal(tiled, np.tile(pre_emphasis(audio), 4)[:1000])


@given(samples=st.integers(0, 3000), lengths=lengths_of_blocks)
def test_blocks_are_pre_emphasised_to_the_same_bits(samples: int, lengths: list[int]) -> None:
    clip = noise(samples)
    before = clip.copy()
    assert_same_bits(joined(pre_emphasise_blocks(split(clip, lengths))), pre_emphasis(clip))
    assert_same_bits(clip, before)
