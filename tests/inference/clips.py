"""Clips, recordings and trials that the tests of scoring share, and how they wait for threads."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from spectra_jax import audio
from spectra_jax.data.trial import Trial
from tests.golden import recipe

RATE = 16000
# After which a test that waits for a thread fails instead of hanging. It bounds no speed.
HANG_SECONDS = 600

Blocks = Callable[[], Iterator[np.ndarray]]


def waveform(seed: int, samples: int = 20000) -> np.ndarray:
    return recipe.waveform(seed, samples)


def as_decoded(samples: np.ndarray) -> audio.Decoded:
    """The decoded form of int16 samples."""
    return audio.Decoded(samples / np.float32(2**15), RATE, len(samples), "0" * 64, None)


def windows_of(seeds: range) -> np.ndarray:
    return np.stack([recipe.preprocess(waveform(seed)) for seed in seeds])


def in_blocks(samples: np.ndarray, then: Exception | None = None) -> Blocks:
    """A recording's samples in blocks, after which decoding may fail."""

    def blocks() -> Iterator[np.ndarray]:
        yield from np.split(samples.astype(np.float32), range(10_000, len(samples), 10_000))
        if then is not None:
            raise then

    return blocks


def replace_streams(
    monkeypatch: pytest.MonkeyPatch,
    recordings: dict[str, Blocks],
    rate: int = RATE,
    expected_samples: int | None = None,
) -> list[str]:
    """Have `open_stream` yield these recordings' blocks. Returns the names of those closed so far, a live list."""
    closed: list[str] = []

    @contextmanager
    def open_stream(path: Path, content: bytes | None = None) -> Iterator[audio.AudioStream]:
        try:
            yield audio.AudioStream(rate, recordings[path.stem](), expected_samples)
        finally:
            closed.append(path.stem)

    monkeypatch.setattr("spectra_jax.audio.open_stream", open_stream)
    return closed


def trials_of(names: Iterable[str]) -> list[Trial]:
    return [Trial(name, Path(f"{name}.wav")) for name in names]


def endless_trials(taken: list[int]) -> Iterator[Trial]:
    for index in itertools.count():
        taken.append(index)
        yield Trial(str(index), Path(f"{index}.wav"))


def zeros(windows: np.ndarray) -> np.ndarray:
    """Logits of 0 for each window."""
    return np.zeros((len(windows), 2))


def levels(windows: np.ndarray) -> np.ndarray:
    """For windows of constant samples, their level before pre-emphasis as both logits."""
    assert np.isfinite(windows).all()
    return np.stack([windows[:, -1], windows[:, -1]], axis=1).astype(np.float64) / np.float32(0.03)


def decoder_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("spectra-jax-decode")]


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + HANG_SECONDS
    while not holds():
        assert time.monotonic() < give_up, "the condition never held"
        time.sleep(0.01)
