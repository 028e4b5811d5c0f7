"""`run.json`: which run a folder belongs to, and what differs from another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectra_jax.data.sources import collect
from spectra_jax.errors import InputError
from spectra_jax.inference.scorer import Scorer, WindowPolicy
from spectra_jax.jobs import BulkRun, Store
from tests.jobs.conftest import NUM_CLIPS, open_clips


def test_another_run_is_refused_and_what_differs_named(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    list(open_clips(tmp_path / "run", clips, scorer))
    for differing, options in {
        "part_size: 6 there, 9 now": {"part_size": 9},
        "windows.hop: null there, 1.0 now": {"window_policy": WindowPolicy(1.0)},
        'precision: "float32" there, "bfloat16" now': {"scorer": Scorer("demo", batch_size=3, precision="bfloat16")},
        "batch_size: 3 there, 2 now": {"scorer": Scorer("demo", batch_size=2)},
        "input.trials: 23 there, 22 now": {"inputs": [clips / f"{number:02d}.wav" for number in range(1, NUM_CLIPS)]},
        "input.sha256": {"inputs": [clips / f"{number:02d}.wav" for number in reversed(range(NUM_CLIPS))]},
    }.items():
        trials = collect(options.pop("inputs", [clips]))
        given = {"scorer": scorer, "part_size": 6} | options
        with pytest.raises(InputError, match=rf"holds another run; give another folder(?s:.*){differing}"):
            BulkRun(Store(tmp_path / "run"), trials, **given)


def test_a_folder_of_something_else_is_left_alone(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds other files and no run\.json, such as thesis\.tex"):
        open_clips(tmp_path, clips, scorer)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        open_clips(tmp_path, clips, scorer)
