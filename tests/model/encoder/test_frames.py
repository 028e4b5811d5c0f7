"""Valid frames, their times, and the normalization of waveforms."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.encoder import frame_mask, frame_times, normalize_waveform
from tests.model.encoder.small import noise, small_config


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(0, 700), min_size=3, max_size=3))
def test_as_many_frames_are_valid_as_a_clip_has(lengths: list[int]) -> None:
    config = small_config()
    mask = np.asarray(frame_mask(config, np.asarray(lengths, np.int32), config.num_frames(700)))
    assert mask.sum(axis=1).tolist() == [config.num_frames(length) for length in lengths]
    assert (np.sort(~mask, axis=1) == ~mask).all()  # the valid frames come first


def test_unsigned_lengths_below_one_frame_have_no_frames() -> None:
    assert not frame_mask(small_config(), np.asarray([0, 5], np.uint32), 4).any()


def test_the_first_frames_of_the_published_networks_are_20_ms_apart() -> None:
    np.testing.assert_allclose(frame_times(EncoderConfig(), 3), [0.0125, 0.0325, 0.0525])
    np.testing.assert_allclose(frame_times(EncoderConfig(), 2, sample_rate=8000), [0.025, 0.065])


def test_a_frame_is_computed_from_the_samples_around_its_time() -> None:
    config = small_config()
    first, second = frame_times(config, 2, sample_rate=1)
    assert first == config.num_samples(1) / 2
    # The last frame ends as far after its time as the first one starts before.
    assert frame_times(config, 9, sample_rate=1)[-1] + first == config.num_samples(9)
    assert second - first == np.prod(config.conv_stride)


def test_normalized_waveforms_have_zero_mean_and_unit_variance_over_valid_samples() -> None:
    x = noise(2, 1000) * 3 + 7
    found = np.asarray(jax.jit(normalize_waveform)(x, np.asarray([1000, 400])))
    for clip, length in zip(found, [1000, 400], strict=True):
        np.testing.assert_allclose([clip[:length].mean(), clip[:length].std()], [0, 1], atol=1e-5)
        assert (clip[length:] == 0).all()
    np.testing.assert_allclose(np.asarray(normalize_waveform(x))[0], found[0], atol=1e-6)


@pytest.mark.parity
def test_normalization_is_that_of_the_feature_extractor_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    x, lengths = noise(3, 900) * 5 - 2, np.asarray([900, 450, 17])
    extract = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    clips = [clip[:length] for clip, length in zip(x, lengths, strict=True)]
    expected = extract(clips, sampling_rate=16000, padding=True, return_tensors="np").input_values
    np.testing.assert_allclose(np.asarray(normalize_waveform(x, lengths)), expected, atol=2e-5)
