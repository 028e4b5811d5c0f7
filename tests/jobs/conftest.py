"""Clips, and the score file of a run over them that nothing interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from spectra_jax.data.sources import collect
from spectra_jax.inference.scorer import Scorer
from spectra_jax.jobs import BulkRun, Store
from tests.programs.runs import finish

RATE = 16000
NUM_CLIPS = 23


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 short clips, of which the sixth is not audio."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(NUM_CLIPS):
        noise = np.random.default_rng(number).normal(size=4000 + 100 * number) * 0.1
        soundfile.write(folder / f"{number:02d}.wav", noise, RATE)
    (folder / "05.wav").write_bytes(b"RIFF and no more")
    return folder


@pytest.fixture(scope="package")
def scorer() -> Scorer:
    return Scorer("demo", batch_size=3)


def open_clips(folder: Path | str, clips: Path, scorer: Any, **options: Any) -> BulkRun:
    """Open a run over a folder of clips, in parts of six."""
    return BulkRun(Store(folder), collect([clips]), scorer, part_size=options.pop("part_size", 6), **options)


@pytest.fixture(scope="package")
def undisturbed(clips: Path, scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The score file of a run that nothing interrupted."""
    return finish(open_clips(tmp_path_factory.mktemp("undisturbed") / "run", clips, scorer))
