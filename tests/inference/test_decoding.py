"""Decoding by threads: how far ahead, in which order, and what a damaged recording does."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from spectra_jax import audio
from spectra_jax.errors import AudioError
from spectra_jax.inference.scorer import ScoringProgress
from spectra_jax.inference.windows import WindowPolicy
from tests.engine_stand_in import first_samples, stand_in_scorer
from tests.inference.clips import (
    HANG_SECONDS,
    RATE,
    Blocks,
    as_decoded,
    decoder_threads,
    endless_trials,
    in_blocks,
    levels,
    replace_streams,
    trials_of,
    wait_until,
    waveform,
    zeros,
)


def test_at_most_three_batches_of_trials_are_taken(few_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches in flight, and one decoded: four clips for two threads, rather than the three of a batch."""
    taken: list[int] = []
    monkeypatch.setattr("spectra_jax.audio.decode", lambda *_, **__: as_decoded(waveform(1)))
    scorer = stand_in_scorer(zeros)
    results = scorer.score_trials(endless_trials(taken))
    for index in range(20):
        assert next(results).trial.utterance_id == str(index)
        yielded = index // scorer.batch_size * scorer.batch_size
        assert len(taken) <= yielded + 2 * scorer.batch_size + 2 * few_threads
    results.close()
    wait_until(lambda: decoder_threads() == [])


def test_clips_are_decoded_while_the_device_computes(few_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next batch is dispatched before the scorer waits for one, and meanwhile the batch after it is decoded."""
    size = 3
    lock = threading.Lock()
    decoded = 0
    dispatched: list[int] = []

    def read(path: Path, *_: object, **__: object) -> audio.Decoded:
        nonlocal decoded
        with lock:
            decoded += 1
        return as_decoded(waveform(1))

    class InFlight:
        """On a device that does not finish until the clips of two more batches are decoded."""

        def __init__(self, batch: int):
            self.batch = batch

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            if self.batch < 3:
                assert len(dispatched) == self.batch + 2, "waited for a batch while the device had no other"
                wait_until(lambda: decoded >= size * (self.batch + 3))
            return np.zeros((size, 2))

    def dispatch(windows: np.ndarray) -> InFlight:
        dispatched.append(len(windows))
        return InFlight(len(dispatched) - 1)

    monkeypatch.setattr("spectra_jax.audio.decode", read)
    scorer = stand_in_scorer(dispatch, batch_size=size)
    trials = list(itertools.islice(endless_trials([]), 5 * size))
    results = list(scorer.score_trials(trials))
    assert [result.trial for result in results] == trials
    assert dispatched == [size] * 5


def test_results_keep_the_order_of_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever clip is decoded first: each even one waits for the odd one after it."""
    done = [threading.Event() for _ in range(12)]

    def read(path: Path, *_: object, **__: object) -> audio.Decoded:
        index = int(path.stem)
        if index % 2 == 0:
            assert done[index + 1].wait(HANG_SECONDS)
        done[index].set()
        if index == 5:
            raise AudioError("unreadable")
        return as_decoded(np.full(70000, index + 1, np.int16))

    monkeypatch.setattr("spectra_jax.inference.decoding.DECODER_THREADS", 4)
    monkeypatch.setattr("spectra_jax.audio.decode", read)
    scorer = stand_in_scorer(first_samples)
    results = list(scorer.score_trials(itertools.islice(endless_trials([]), 12)))
    assert [result.error for result in results] == [None] * 5 + ["unreadable"] + [None] * 6
    found = [round(result.logits[0] * 32768) for result in results if result.logits is not None]
    assert found == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]


def test_leaving_early_stops_the_threads(few_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    reads: list[Path] = []

    def read(path: Path, *_: object, **__: object) -> audio.Decoded:
        reads.append(path)
        if int(path.stem) >= 8:
            hold.wait(HANG_SECONDS)
        return as_decoded(waveform(1))

    monkeypatch.setattr("spectra_jax.audio.decode", read)
    scorer = stand_in_scorer(zeros)
    try:
        results = scorer.score_trials(endless_trials([]))
        next(results)
        results.close()  # does not wait for the clips on hold
        assert len(reads) <= 8 + few_threads
    finally:
        hold.set()
    wait_until(lambda: decoder_threads() == [])
    assert len(reads) <= 8 + few_threads, "a clip was decoded that no consumer waits for"

    def fails(windows: np.ndarray) -> np.ndarray:
        raise MemoryError("no memory")

    scorer = stand_in_scorer(fails)
    with pytest.raises(MemoryError, match="no memory"):
        list(scorer.score_trials(endless_trials([])))
    wait_until(lambda: decoder_threads() == [])


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_memory_does_not_grow_with_a_recording(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    """Half an hour is 115 MB of samples at 16 kHz, and its windows, which overlap, are 230 MB."""
    seconds, block = 1800, np.random.default_rng(0).standard_normal(32_768, np.float32)
    audio.resample(block, rate)  # imports scipy, which is not part of the measurement
    replace_streams(monkeypatch, {"long": lambda: itertools.repeat(block, seconds * rate // len(block))}, rate)
    scorer = stand_in_scorer(zeros)
    tracemalloc.start()
    try:
        (result,) = scorer.score_trials(trials_of(["long"]), window_policy=WindowPolicy(2.0, "min"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.error is None
    assert result.seconds == pytest.approx(seconds, abs=3)
    assert len(result.window_scores or ()) in (898, 899)
    assert peak < 40e6


@pytest.mark.parametrize(
    ("recording", "error", "seconds"),
    [
        (in_blocks(np.append(np.ones(300_000), np.nan)), "1 of 300,001 samples are NaN or infinite", 300_001 / RATE),
        (in_blocks(np.ones(300_000), AudioError("cut short")), "cut short", None),
        (in_blocks(np.append(np.ones(300_000), [3e38, -3e38] * 900)), "values too large for float32", 301_800 / RATE),
        (in_blocks(np.append(np.nan, np.ones(300_000))), "the first is sample 0 (nan)", 300_001 / RATE),
        (in_blocks(np.ones(100), AudioError("cut short")), "cut short", None),
        (in_blocks(np.ones(0)), "long.wav: holds no samples", None),
    ],
)
def test_a_problem_at_the_end_refuses_the_recording(
    recording: Blocks, error: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first windows were scored by then. No window with NaN in it goes to the network."""
    closed = replace_streams(
        monkeypatch, {"a": in_blocks(np.ones(200_000)), "long": recording, "b": in_blocks(np.ones(9))}
    )
    scorer = stand_in_scorer(levels)
    before, refused, after = scorer.score_trials(trials_of(["a", "long", "b"]), window_policy=WindowPolicy(0.1))
    assert error in (refused.error or "")
    assert refused.logits is refused.window_scores is None
    assert refused.seconds == (seconds if seconds is None else pytest.approx(seconds))
    assert (refused.sha256 is None) == (seconds is None)
    assert before.window_scores == pytest.approx([1] * 86)
    assert after.window_scores == pytest.approx([1])
    assert sorted(closed) == ["a", "b", "long"]


def test_an_impossible_rate_refuses_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_streams(monkeypatch, {"long": in_blocks(np.ones(300_000))}, rate=999)
    scorer = stand_in_scorer(levels)
    (result,) = scorer.score_trials(trials_of(["long"]), window_policy=WindowPolicy(1.0))
    assert "sample rate 999 is not a whole number" in (result.error or "")
    assert result.seconds == pytest.approx(300_000 / 999)


def test_a_recording_is_decoded_only_a_little_ahead_of_the_device(
    few_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled: list[int] = []

    def endless_blocks() -> Iterator[np.ndarray]:
        for index in itertools.count():
            pulled.append(index)
            yield np.ones(RATE, np.float32)

    closed = replace_streams(monkeypatch, {"endless": endless_blocks, "next": endless_blocks})
    scored = threading.Event()

    class InFlight:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            scored.set()
            assert hold.wait(HANG_SECONDS)
            return np.zeros((scorer.batch_size, 2))

    hold = threading.Event()
    scorer = stand_in_scorer(lambda windows: InFlight())
    reported: list[int] = []

    def stop(done: ScoringProgress) -> None:
        reported.append(done.windows)
        if len(reported) == 5:
            raise KeyboardInterrupt

    results = scorer.score_trials(trials_of(["endless", "next"]), window_policy=WindowPolicy(1.0), on_progress=stop)
    consumer = ThreadPoolExecutor(1)
    stopped = consumer.submit(next, results)
    assert scored.wait(HANG_SECONDS)
    # Two batches in flight, the windows decoded together with them, and the next ones, of two recordings.
    wait_until(lambda: len(pulled) >= 3 * 16)
    time.sleep(0.1)  # for threads that would decode more
    assert len(pulled) <= 4 * 16 + 10
    hold.set()
    with pytest.raises(KeyboardInterrupt):
        stopped.result(HANG_SECONDS)
    assert reported == [scorer.batch_size * number for number in range(1, 6)]
    consumer.shutdown()
    wait_until(lambda: decoder_threads() == [])
    del results, stopped
    gc.collect()
    assert sorted(closed) == ["endless", "next"]


def test_a_failure_in_a_decoding_thread_is_raised(few_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = replace_streams(
        monkeypatch, {"a": in_blocks(np.ones(10**6), MemoryError("no memory")), "b": in_blocks(np.ones(9))}
    )
    scorer = stand_in_scorer(levels)
    with pytest.raises(MemoryError, match="no memory"):
        list(scorer.score_trials(trials_of(["a", "b"] * 20), window_policy=WindowPolicy(1.0)))
    wait_until(lambda: decoder_threads() == [])
    assert "a" in closed


def test_the_smallest_possible_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_streams(monkeypatch, {"long": in_blocks(np.ones(64_605))}, expected_samples=64_605)
    scorer = stand_in_scorer(levels)
    (result,) = scorer.score_trials(trials_of(["long"]), window_policy=WindowPolicy(5e-324))
    assert len(result.window_scores or ()) == 6
