"""Arrays of samples: channels, types, values that are not finite, silence."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from spectra_jax.audio import is_silent, prepare, to_mono
from spectra_jax.errors import AudioError
from tests.audio.blocks import noise


def test_channels_are_averaged_and_one_channel_is_left_alone() -> None:
    left, right = noise(500, 1), noise(500, 2)
    np.testing.assert_array_equal(to_mono(np.stack([left, right], axis=1)), (left + right) / np.float32(2))
    np.testing.assert_array_equal(to_mono(left[:, None]), left)
    np.testing.assert_array_equal(to_mono(left), left)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.int8, [-128, 0, 64], [-1, 0, 0.5]),
        (np.uint8, [0, 128, 192], [-1, 0, 0.5]),
        (np.int16, [-32768, 1, 16384], [-1, 2.0**-15, 0.5]),
        (">i2", [-32768, 1, 16384], [-1, 2.0**-15, 0.5]),
        (np.int32, [-(2**31), 1, 2**30], [-1, 2.0**-31, 0.5]),
        (np.float16, [-1, 0.25, 0.5], [-1, 0.25, 0.5]),
        (np.float64, [-1, 0.1, 0.5], [-1, np.float32(0.1), 0.5]),
    ],
)
def test_pcm_of_every_width_is_brought_to_full_scale_one(
    dtype: Any, values: list[float], expected: list[float]
) -> None:
    mono = to_mono(np.array(values, dtype=dtype))
    assert mono.dtype == np.float32
    np.testing.assert_array_equal(mono, np.array(expected, np.float32))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.complex64, np.bool_, object])
def test_types_without_a_full_scale_are_an_error(dtype: Any) -> None:
    with pytest.raises(AudioError, match="unsupported sample type"):
        to_mono(np.zeros(10, dtype))


def test_shapes_that_no_clip_has_are_an_error() -> None:
    with pytest.raises(AudioError, match=r"is it \(channels, samples\)"):
        prepare(np.zeros((2, 64600), np.float32), 16000)
    with pytest.raises(AudioError, match=r"shape \(1, 2, 3\)"):
        prepare(np.zeros((1, 2, 3), np.float32), 16000)
    with pytest.raises(AudioError, match="no channel"):
        prepare(np.zeros((5, 0), np.float32), 16000)
    with pytest.raises(AudioError, match="no samples"):
        prepare(np.zeros((0, 2), np.float32), 16000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_non_finite_samples_are_counted_and_the_first_is_named(value: float, rate: int) -> None:
    audio = noise(200_000)
    # Also behind the window.
    audio[[150_000, 150_007]] = value
    with pytest.raises(AudioError, match=r"2 of 200,000 samples are NaN or infinite; the first is sample 150000"):
        prepare(audio, rate)


def test_values_beyond_float32_are_an_error_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError, match="1 of 2 samples"):
            prepare(np.array([1e300, 0]), 16000)
        with pytest.raises(AudioError, match="the first is sample 0"):
            prepare(np.full((4, 2), 3e38, np.float32), 16000)
        with pytest.raises(AudioError, match="too large for float32"):
            prepare(np.array([3e38, -3e38] * 9, np.float32), 16000)


def test_silence_is_every_sample_zero_before_and_after_preparing() -> None:
    assert is_silent(prepare(np.zeros(1000, np.float32), 16000))
    assert is_silent(prepare(np.full(1000, 128, np.uint8), 44100))
    one = np.zeros(1000, np.float32)
    one[999] = 2.0**-15
    assert not is_silent(prepare(one, 16000))
    assert not is_silent(prepare(np.full(1000, 0.1, np.float32), 16000))
    # A sound after the window does not count.
    assert is_silent(prepare(one, 16000, num_samples=999))
