"""The chart of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spectra_jax.training import write_curves


def test_the_chart_is_written_into_the_runs_directory(finished: tuple[Path, list[Any]]) -> None:
    chart = write_curves(finished[0])
    assert chart == finished[0] / "curves.svg"
    text = chart.read_text()
    assert text.startswith("<svg") and "cross entropy" in text and "dev EER" in text
