"""`run.json`: which run a folder belongs to, and what differs from another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spectra_jax.data.sources import collect
from spectra_jax.errors import InputError
from spectra_jax.inference.scorer import Scorer
from spectra_jax.inference.windows import WindowPolicy
from spectra_jax.jobs import BulkRun, Store
from tests.jobs.conftest import NUM_CLIPS, open_clips


def test_another_run_is_refused_and_what_differs_named(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    list(open_clips(tmp_path / "run", clips, scorer))
    cases: dict[str, dict[str, Any]] = {
        "part_size: recorded 6, now 9": {"part_size": 9},
        "windows.hop: recorded null, now 1.0": {"window_policy": WindowPolicy(1.0)},
        'precision: recorded "float32", now "bfloat16"': {"scorer": Scorer("demo", batch_size=3, precision="bfloat16")},
        "batch_size: recorded 3, now 2": {"scorer": Scorer("demo", batch_size=2)},
        "input.trials: recorded 23, now 22": {
            "inputs": [clips / f"{number:02d}.wav" for number in range(1, NUM_CLIPS)]
        },
        "input.sha256": {"inputs": [clips / f"{number:02d}.wav" for number in reversed(range(NUM_CLIPS))]},
    }
    for differing, options in cases.items():
        trials = collect(options.pop("inputs", [clips]))
        given: dict[str, Any] = {"scorer": scorer, "part_size": 6} | options
        with pytest.raises(InputError, match=rf"holds another run; give another folder(?s:.*){differing}"):
            BulkRun(Store(tmp_path / "run"), trials, **given)


def test_a_folder_of_something_else_is_left_alone(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds other files and no run\.json, such as thesis\.tex"):
        open_clips(tmp_path, clips, scorer)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        open_clips(tmp_path, clips, scorer)
