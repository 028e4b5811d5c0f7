"""Resampling, of a complete clip and of one in blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from spectra_jax.audio import prepare, resample
from spectra_jax.audio.resampling import resample_blocks
from spectra_jax.errors import AudioError
from tests.audio.blocks import assert_same_bits, joined, lengths_of_blocks, noise, split

RATES = (8000, 11025, 12345, 16000, 22050, 44100, 48000, 96000, 192000)


@pytest.mark.parametrize(
    ("rate", "up", "down"), [(8000, 2, 1), (44100, 160, 441), (48000, 1, 3), (22050, 320, 441), (11025, 640, 441)]
)
def test_resampling_is_scipys_with_reduced_factors(rate: int, up: int, down: int) -> None:
    audio = noise(rate // 2)
    resampled = resample(audio, rate)
    assert resampled.dtype == np.float32
    np.testing.assert_array_equal(resampled, signal.resample_poly(audio, up, down))


def test_a_tone_keeps_its_pitch_through_resampling() -> None:
    tone = np.sin(2 * np.pi * 300 * np.arange(44_100) / 44_100).astype(np.float32)
    resampled = resample(tone, 44_100)
    assert np.argmax(np.abs(np.fft.rfft(resampled))) == 300


def test_equal_rates_return_the_clip_itself() -> None:
    audio = noise(100)
    assert resample(audio, 16000) is audio
    assert resample(audio, 8000, 8000) is audio


@pytest.mark.parametrize("rate", [0, -16000, 16, 999, 2_000_000, 16000.5, float("nan"), float("inf")])
def test_impossible_rates_are_an_error(rate: float) -> None:
    with pytest.raises(AudioError, match=f"sample rate {rate} is not a whole number"):
        prepare(noise(100), rate)
    with pytest.raises(AudioError, match=f"target rate {rate} is not a whole number"):
        prepare(noise(100), 16000, target_rate=rate)


@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=15, deadline=None)
@given(samples=st.integers(1, 120_000), lengths=lengths_of_blocks, min_filtered=st.sampled_from([1, 1000, 1 << 18]))
def test_blocks_resample_to_the_same_bits(rate: int, samples: int, lengths: list[int], min_filtered: int) -> None:
    clip = noise(samples)
    divisor = math.gcd(rate, 16_000)
    wanted = clip if rate == 16_000 else signal.resample_poly(clip, 16_000 // divisor, rate // divisor)
    found = joined(resample_blocks(split(clip, lengths), rate, min_filtered=min_filtered))
    assert len(found) == math.ceil(samples * 16_000 / rate)
    assert_same_bits(found, wanted)


@pytest.mark.parametrize(("rate", "target"), [(44_101, 16_000), (15_999, 16_000), (1_000, 16_000), (16_000, 48_000)])
def test_blocks_of_odd_rates(rate: int, target: int) -> None:
    """The factors are as large as the rates: few input samples coincide with an output sample."""
    clip = noise(7 * rate + 123)
    resampled = joined(resample_blocks(split(clip, [rate // 3]), rate, target, min_filtered=1))
    assert_same_bits(resampled, resample(clip, rate, target))


def test_blocks_of_nothing_and_of_impossible_rates() -> None:
    assert list(resample_blocks(iter([]), 44_100)) == []
    with pytest.raises(AudioError, match="sample rate 44 is not a whole number of Hz"):
        list(resample_blocks(iter([noise(10)]), 44))
