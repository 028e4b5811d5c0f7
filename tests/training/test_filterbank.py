"""The first convolution as a bank of band-pass filters."""

from __future__ import annotations

import numpy as np

from spectra_jax.training.filterbank import filterbank


def test_each_filter_has_unit_power_on_the_windows_and_its_own_band() -> None:
    windows = np.random.default_rng(0).standard_normal((4, 4000)).astype(np.float32)
    kernel = filterbank(windows, taps=64, channels=8, stride=4, sample_rate=16_000, rng=np.random.default_rng(1))
    assert kernel.shape == (64, 1, 8) and kernel.dtype == np.float32
    outputs = np.stack([np.convolve(window, taps[::-1], "valid")[::4] for window in windows for taps in kernel[:, 0].T])
    power = np.square(outputs.reshape(4, 8, -1)).mean(axis=(0, 2))
    np.testing.assert_allclose(power, 1, rtol=1e-3)
    peaks = np.abs(np.fft.rfft(kernel[:, 0], 4096, axis=0)).argmax(axis=0) * 16_000 / 4096
    assert np.all(np.diff(peaks) > 0) and peaks[-1] == np.clip(peaks[-1], 7000, 8000)


def test_a_silent_band_stays_finite() -> None:
    kernel = filterbank(
        np.zeros((1, 400), np.float32), taps=32, channels=4, stride=2, sample_rate=16_000, rng=np.random.default_rng(0)
    )
    assert np.isfinite(kernel).all()
