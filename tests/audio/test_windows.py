"""The windows of a clip, of a complete one and of one in blocks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import signal

from spectra_jax.audio import pre_emphasis, prepare, prepare_windows, read, resample, window
from spectra_jax.errors import AudioError
from tests.audio.blocks import assert_same_bits, lengths_of_blocks, noise, split

samples = arrays(np.float32, st.integers(1, 300), elements=st.floats(-1, 1, width=32))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 1000))
def test_a_window_has_its_length_and_repeats_the_clip(length: int, num_samples: int) -> None:
    audio = np.arange(length, dtype=np.float32)
    cut = window(audio, num_samples)
    np.testing.assert_array_equal(cut, np.arange(num_samples) % length)
    assert not np.shares_memory(cut, audio)


def test_a_window_starts_at_a_fraction_of_the_positions_where_it_fits() -> None:
    long, short = np.arange(100, dtype=np.float32), np.arange(3, dtype=np.float32)
    assert window(long, 10, start=0.0).tolist() == list(range(10))
    assert window(long, 10, start=0.9999).tolist() == list(range(90, 100))
    # A short clip is repeated from there on, and so is one of the window's length.
    assert window(short, 7, start=0.4).tolist() == [1, 2, 0, 1, 2, 0, 1]
    assert window(short, 3, start=0.4).tolist() == [1, 2, 0]


def test_an_empty_clip_and_an_empty_window_are_errors() -> None:
    with pytest.raises(AudioError, match="no samples"):
        window(noise(0), 10)
    with pytest.raises(ValueError, match="a window of 0 samples"):
        window(noise(10), 0)


def test_prepare_is_the_sum_of_its_steps(tmp_path: Path) -> None:
    audio = np.stack([noise(30_000, 1), noise(30_000, 2)], axis=1)
    path = tmp_path / "clip.flac"
    soundfile.write(path, audio / 10, 44100)
    mono, rate = read(path)
    steps = window(pre_emphasis(signal.resample_poly(mono, 160, 441)), 64600)
    prepared = prepare(mono, rate)
    assert (prepared.shape, prepared.dtype) == ((64600,), np.dtype(np.float32))
    np.testing.assert_array_equal(prepared, steps)
    # From the samples as decoded, with their channels, it comes to the same, as integers or as floats.
    decoded, _ = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(prepare(decoded, rate), steps)


@settings(max_examples=50, deadline=None)
@given(samples)
def test_preparing_leaves_its_input_alone_and_owns_its_output(audio: NDArray[np.float32]) -> None:
    before = audio.copy()
    prepared = prepare(audio, 16000, num_samples=100)
    assert not np.shares_memory(prepared, audio)
    np.testing.assert_array_equal(audio, before)


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from([8000, 16_000, 44_100]),
    samples=st.integers(1, 60_000),
    lengths=lengths_of_blocks,
    num_samples=st.integers(1, 9000),
    hop=st.integers(1, 20_000),
)
def test_windows_are_cut_out_of_the_complete_clip(
    rate: int, samples: int, lengths: list[int], num_samples: int, hop: int
) -> None:
    """Windows may overlap, touch, or leave samples out between them."""
    hop = max(hop, samples // 200)  # so that they are not too many to look at
    clip = noise(samples)
    found = list(prepare_windows(split(clip, lengths), rate, hop=hop / 16_000, num_samples=num_samples))
    complete = pre_emphasis(resample(clip, rate))
    if len(complete) <= num_samples:
        assert len(found) == 1
        assert_same_bits(found[0], prepare(clip, rate, num_samples=num_samples))
    else:
        wanted = np.lib.stride_tricks.sliding_window_view(complete, num_samples)[::hop]
        assert_same_bits(np.stack(found), np.ascontiguousarray(wanted))
    assert_same_bits(found[0], prepare(clip, rate, num_samples=num_samples))


@pytest.mark.parametrize(("samples", "windows"), [(1, 1), (99, 1), (100, 1), (149, 1), (150, 2), (199, 2), (200, 3)])
def test_the_last_window_is_the_last_complete_one(samples: int, windows: int) -> None:
    found = list(prepare_windows(iter([noise(samples)]), 16_000, hop=50 / 16_000, num_samples=100))
    assert [window.shape for window in found] == [(100,)] * windows


def test_a_hop_below_one_sample_is_one_sample() -> None:
    assert len(list(prepare_windows(iter([noise(110)]), 16_000, hop=1e-9, num_samples=100))) == 11


def test_clips_without_windows_are_errors() -> None:
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
