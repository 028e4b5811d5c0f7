"""A score file with its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spectra_jax.data.labels import Labels


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Labels]:
    random = np.random.default_rng(0)
    bonafide = np.arange(50) < 20
    ids = np.array([f"t{i}" for i in range(50)], object)
    values = random.normal(bonafide * 1.5)
    path = tmp_path / "scores.txt"
    # The last one was skipped.
    path.write_text("".join(f"{i} {v:.6f}\n" for i, v in zip(ids[:49], values[:49], strict=True)))
    return path, Labels("labels.parquet", ids, bonafide)
