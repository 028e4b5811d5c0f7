"""A result names the revision of its dataset only where that is a commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spectra_jax.arena import result
from spectra_jax.data.labels import Labels
from spectra_jax.data.sources import arena as dataset
from spectra_jax.errors import InputError
from tests.arena.test_arena import NAME, SYSTEM


def test_results_state_no_branch_and_incomplete_ones_are_refused(tmp_path: Path) -> None:
    scores = tmp_path / "scores.txt"
    scores.write_text("a 1.000000\nb 0.000000\n")
    labels = Labels("labels", np.array(["a", "b"], object), np.array([True, False]))
    content = result.result(scores, labels, f"{dataset.ORGANISATION}/SONAR", system=SYSTEM)
    assert content["dataset"]["revision"] is None, "a branch does not identify what was scored"
    stated = result.result(
        *(scores, labels, NAME),
        system=SYSTEM,
        bench_version="speech-spoof-bench==0.4.0",
        reproduction={},
        submitted_at="2026-11-24",
    )
    assert (stated["reproduction"], stated["submitted_at"]) == ({}, "2026-11-24")
    assert stated["artifact"]["bench_version"] == "speech-spoof-bench==0.4.0"
    broken: list[Any] = [{}, None, content | {"scores": None}, content | {"scores": {"n_trials": 2, "n_skipped": None}}]
    for half in broken:
        with pytest.raises(InputError, match="no result: it needs scores"):
            result.check(half, scores, labels)
