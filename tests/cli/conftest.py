"""Clips, a stand-in for the network, and the command line as a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from spectra_jax import audio
from spectra_jax.data.trial import Trial
from spectra_jax.inference.results import Result
from spectra_jax.inference.scorer import ScoringProgress
from spectra_jax.jobs.scorer_options import ScorerOptions
from spectra_jax.model.config import SpectraConfig
from tests.golden import recipe

CLIPS = Path(__file__).parents[2] / "examples" / "corpus" / "eval"
PROGRAM = [sys.executable, "-m", "spectra_jax"]
PROGRAMS = Path(__file__).parents[1] / "programs"


class StandInScorer:
    """Decodes clips as a scorer does, and scores them by their first sample, without a network."""

    source = "demo"
    model = SimpleNamespace(config=SpectraConfig())

    def identity(self) -> dict[str, Any]:
        return {"batch_size": 1}

    def score_trials(
        self, trials: Iterable[Trial], *, on_progress: Callable[[ScoringProgress], None] | None = None, **_: object
    ) -> Generator[Result]:
        for number, trial in enumerate(trials, start=1):
            if on_progress is not None:
                on_progress(ScoringProgress(number, 3 * number))
            try:
                samples, rate = audio.read(trial.path)
            except audio.AudioError as error:
                yield Result(trial, None, error=str(error))
            else:
                score = float(samples.flat[0])
                yield Result(trial, (-score, score), len(samples) / rate)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores without a network, for tests of everything around it."""
    monkeypatch.setattr(ScorerOptions, "load", lambda *_: StandInScorer())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good clips and bad ones, in a folder whose name is not ASCII."""
    folder = tmp_path_factory.mktemp("corpus") / "Fälle"
    (folder / "inner").mkdir(parents=True)
    soundfile.write(folder / "a.wav", recipe.waveform(1, 20000), 16000)
    soundfile.write(folder / "inner" / "ж.flac", recipe.waveform(2, 30000), 16000)
    soundfile.write(folder / "silent.wav", np.zeros(9000), 16000)
    soundfile.write(folder / "nan.wav", np.full(900, np.nan), 16000, subtype="FLOAT")
    soundfile.write(folder / "cut.flac", recipe.waveform(3, 30000), 16000)
    os.truncate(folder / "cut.flac", 20000)
    (folder / "text.wav").write_text("no audio at all")
    (folder / "empty.wav").touch()
    return folder
