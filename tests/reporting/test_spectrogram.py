"""Spectrograms: the same however the samples are divided, and aligned in time."""

from __future__ import annotations

import io

import numpy as np
import pytest

from spectra_jax.reporting.spectrogram import Spectrogram

Image = pytest.importorskip("PIL.Image", reason="needs the extra `report`")
RATE = 16_000


def image(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), float)


@pytest.mark.parametrize("blocks", [1, 7, 1000])
def test_blocks_do_not_change_it(blocks: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    complete, divided = Spectrogram(len(samples), 100), Spectrogram(len(samples), 100)
    complete.add(samples)
    for block in np.array_split(samples, blocks):
        divided.add(block)
    assert complete.png(100, 80) == divided.png(100, 80)


def test_a_sound_is_where_it_is_in_time() -> None:
    samples = np.random.default_rng(0).normal(0, 1e-4, 20 * RATE)
    samples[15 * RATE : 16 * RATE] += np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE)
    drawn = Spectrogram(len(samples), 200)
    drawn.add(samples)
    bright = np.flatnonzero(image(drawn.png(200, 80)).max(axis=0) > 150)
    assert 149 <= bright.min() <= 151 and 158 <= bright.max() <= 160
