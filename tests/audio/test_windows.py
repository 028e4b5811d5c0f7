"""The windows of a clip, of a complete one and of one in blocks."""

from __future__ import annotations

import math
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

from spectra_jax.audio import cut_windows, pre_emphasis, prepare, prepare_windows, read, resample, window
from spectra_jax.audio.speech import SpeechTrack
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
        wanted = list(np.lib.stride_tricks.sliding_window_view(complete, num_samples)[::hop])
        start = len(wanted) * hop
        if start < len(complete) and start - hop + num_samples < len(complete):
            wanted.append(window(complete[start:], num_samples))
        assert_same_bits(np.stack(found), np.stack(wanted))
    assert_same_bits(found[0], prepare(clip, rate, num_samples=num_samples))


@pytest.mark.parametrize(
    ("samples", "spans"),
    [
        (1, [(0, 1)]),
        (99, [(0, 99)]),
        (100, [(0, 100)]),
        (101, [(0, 100), (50, 101)]),
        (150, [(0, 100), (50, 150)]),
        (199, [(0, 100), (50, 150), (100, 199)]),
    ],
)
def test_the_last_window_is_partial_unless_the_clip_fills_it(samples: int, spans: list[tuple[int, int]]) -> None:
    clip = noise(samples)
    found = list(cut_windows(iter([clip]), 16_000, hop=50 / 16_000, num_samples=100))
    assert [(one.start, one.end) for one in found] == spans
    assert [one.is_partial for one in found] == [end - start < 100 for start, end in spans]
    start, end = spans[-1]
    assert_same_bits(found[-1].samples, window(pre_emphasis(clip)[start:end], 100))


def test_an_infinite_hop_has_the_first_window_alone() -> None:
    found = list(cut_windows(iter([noise(1000)]), 16_000, hop=math.inf, num_samples=100))
    assert [(one.start, one.end) for one in found] == [(0, 100)]


class LoudFrames:
    """A detector for which loud frames are speech."""

    name = "loud frames"
    frame_samples = 10

    def is_speech(self, frame: NDArray[np.float32]) -> bool:
        return bool(np.abs(frame).max() > 0.5)


@settings(max_examples=30, deadline=None)
@given(lengths=lengths_of_blocks, quiet=st.integers(0, 900))
def test_windows_start_at_the_first_speech(lengths: list[int], quiet: int) -> None:
    clip = np.concatenate([np.full(quiet, 0.01, np.float32), np.ones(400, np.float32)])
    speech = SpeechTrack(LoudFrames())
    found = list(
        cut_windows(split(clip, lengths), 16_000, hop=50 / 16_000, num_samples=100, speech=speech, speech_only=True)
    )
    assert speech.onset is not None
    assert quiet - 30 <= found[0].start <= quiet
    assert found[0].start == speech.onset
    assert found[-1].end == len(clip)
    assert_same_bits(found[0].samples, pre_emphasis(clip)[speech.onset : speech.onset + 100])


def test_a_clip_without_speech_has_its_first_window() -> None:
    speech = SpeechTrack(LoudFrames())
    clip = np.full(1000, 0.01, np.float32)
    (found,) = cut_windows(iter(np.split(clip, 10)), 16_000, hop=0.1, num_samples=150, speech=speech, speech_only=True)
    assert (found.start, found.end, speech.seconds) == (0, 150, 0.0)
    assert_same_bits(found.samples, pre_emphasis(clip)[:150])


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
