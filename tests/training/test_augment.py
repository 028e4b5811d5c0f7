"""Augmentation: what each one changes, by how much, and that it depends on the generator only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spectra_jax.training import AugmentConfig, augment
from spectra_jax.training.augment import (
    CODECS,
    Samples,
    add_noise,
    change_speed,
    coloured_noise,
    convolutive_noise,
    equalise,
    impulsive_noise,
    limit_band,
    notch_filter,
    through_codec,
)

RATE = 16_000


def tone(frequency: float, seconds: float = 1.0) -> Samples:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def noise(seconds: float = 1.0, seed: int = 0) -> Samples:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE)).astype(np.float32)


def level(samples: np.ndarray) -> float:
    """Root mean square in dB."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


def band_level(samples: np.ndarray, low: float, high: float) -> float:
    """Mean power within a band, dB."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
    return float(10 * np.log10(power[(frequency >= low) & (frequency < high)].mean()))


ALL = ("speed", "rawboost", "equaliser", "band_limit", "noise", "gain", "codec")


@pytest.mark.parametrize("name", ALL)
def test_each_changes_the_clip_and_keeps_it_finite(name: str) -> None:
    clip = tone(440) + noise()
    before = clip.copy()
    certain: dict[str, Any] = {name: 1.0}
    changed = [augment(clip, AugmentConfig(**certain), np.random.default_rng(seed)) for seed in range(4)]
    np.testing.assert_array_equal(clip, before)
    assert all(np.isfinite(one).all() and one.dtype == np.float32 for one in changed)
    assert name == "speed" or all(len(one) == len(clip) for one in changed)
    assert any(len(one) != len(clip) or not np.array_equal(one, clip) for one in changed)


def test_none_changes_nothing() -> None:
    clip = noise()
    np.testing.assert_array_equal(augment(clip, AugmentConfig(), np.random.default_rng(0)), clip)


def test_the_same_generator_does_the_same() -> None:
    likely: dict[str, Any] = dict.fromkeys(ALL, 0.7)
    config = AugmentConfig(**likely)
    one, two, other = (augment(noise(), config, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert len(one) != len(other) or not np.array_equal(one, other)


@pytest.mark.parametrize(("factor", "frequency"), [(1.1, 1100), (0.9, 900), (1.0, 1000)])
def test_speed_moves_pitch_and_length(factor: float, frequency: float) -> None:
    changed = change_speed(tone(1000), factor)
    assert len(changed) == pytest.approx(RATE / factor, abs=1)
    peak = np.abs(np.fft.rfft(changed)).argmax() * RATE / len(changed)
    assert peak == pytest.approx(frequency, abs=2)


@pytest.mark.parametrize("snr", [0.0, 10.0, 30.0])
def test_noise_has_the_given_ratio(snr: float) -> None:
    clip = tone(440)
    added = add_noise(clip, coloured_noise(len(clip), np.random.default_rng(1)), snr) - clip
    assert level(clip) - level(added) == pytest.approx(snr, abs=0.01)


def test_silence_gets_no_noise() -> None:
    silence = np.zeros(1000, np.float32)
    np.testing.assert_array_equal(add_noise(silence, noise()[:1000], 10.0), silence)
    assert np.isfinite(convolutive_noise(silence, np.random.default_rng(0))).all()


def test_gain_is_within_its_range() -> None:
    clip = noise()
    config = AugmentConfig(gain=1.0, gain_range=(-6.0, -3.0))
    changes = [level(augment(clip, config, np.random.default_rng(seed))) - level(clip) for seed in range(20)]
    assert min(changes) >= -6.001 and max(changes) <= -2.999 and np.ptp(changes) > 1


def test_band_limit_removes_frequencies_above_its_edge() -> None:
    limited = limit_band(noise(2.0), 3000.0)
    assert band_level(limited, 100, 2700) - band_level(limited, 3400, 8000) > 55
    assert band_level(limited, 100, 2700) == pytest.approx(band_level(noise(2.0), 100, 2700), abs=0.1)


def test_equaliser_has_its_gains() -> None:
    clip = noise(4.0)
    gains = np.array([10.0, 10, 10, 10, 0, -10, -10, -10, -10])
    change = [band_level(equalise(clip, gains), *band) - band_level(clip, *band) for band in ((100, 900), (4000, 7500))]
    assert change[0] - change[1] == pytest.approx(20, abs=0.5)
    assert level(equalise(clip, gains)) == pytest.approx(level(clip), abs=0.01)


def test_convolutive_noise_distorts_only_from_the_second_order_on() -> None:
    clip = tone(1000)
    linear, distorted = (convolutive_noise(clip, np.random.default_rng(2), harmonics=n)[2000:-2000] for n in (1, 5))
    assert band_level(linear, 950, 1050) - band_level(linear, 2900, 3100) > 60
    assert band_level(distorted, 950, 1050) - band_level(distorted, 2900, 3100) < 60
    assert level(convolutive_noise(clip, np.random.default_rng(2))) == pytest.approx(level(clip), abs=0.01)


def test_impulsive_noise_follows_the_signal() -> None:
    """Signal-dependent: nothing is added where there is nothing."""
    clip = np.concatenate([noise(0.5), np.zeros(RATE // 2, np.float32)])
    changed = impulsive_noise(clip, np.random.default_rng(0))
    assert not changed[RATE // 2 :].any()
    ratio = changed[: RATE // 2] / clip[: RATE // 2]
    hit = np.abs(ratio - np.median(ratio)) > 1e-3
    assert 0.01 < hit.mean() < 0.1


def test_notch_filters_have_the_gain_of_their_range() -> None:
    for seed in range(20):
        taps = notch_filter(np.random.default_rng(seed))
        peak = 20 * np.log10(np.abs(np.fft.rfft(taps, 4096)).max())
        assert -20.1 < peak < 5.1


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_do_not_shift_the_clip(codec: str) -> None:
    clip = (tone(500) + tone(1200)).astype(np.float32)
    decoded = through_codec(clip, codec)
    assert len(decoded) == len(clip)
    middle = slice(2000, -2000)
    assert np.corrcoef(decoded[middle], clip[middle])[0, 1] > 0.98
    assert not np.array_equal(decoded, clip)


def test_codecs_do_not_clip_loud_samples() -> None:
    clip = 4 * tone(500)
    assert np.corrcoef(through_codec(clip, "a-law")[2000:-2000], clip[2000:-2000])[0, 1] > 0.99
