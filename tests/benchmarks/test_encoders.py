"""The benchmark of encoders: contenders that agree, each timed in every round."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import encoders

pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")


@pytest.mark.parity
@pytest.mark.long
def test_a_small_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Compiling takes PyTorch tens of seconds and needs a C++ compiler.
    monkeypatch.delitem(encoders.CONTENDERS, "transformers, torch.compile")
    words = ["--encoders", "small", "--batches", "1", "2", "--seconds", "0.5", "--rounds", "3"]
    assert encoders.main([*words, "--output", str(tmp_path / "found")]) == 0
    results = json.loads((tmp_path / "found.json").read_text())
    rows = [encoders.Row(**row) for row in results["rows"]]
    assert {(row.contender, row.precision, row.batch) for row in rows} == {
        (contender, precision, batch)
        for contender in encoders.CONTENDERS
        for precision in ("float32", "bfloat16")
        for batch in (1, 2)
    }
    assert all(row.seconds is not None and len(row.seconds) == 3 and min(row.seconds) > 0 for row in rows)
    ours = [row.difference or 0 for row in rows if row.contender == "spectra-jax" and row.precision == "float32"]
    assert 0 < max(ours) < 1e-5
    table = (tmp_path / "found.md").read_text()
    assert table.count("| spectra-jax |") == 4 and results["machine"]["cpu"] in table


@pytest.mark.parity
@pytest.mark.long
def test_a_contender_that_computes_something_else_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = encoders.write_encoder("small", tmp_path / "small")
    monkeypatch.delitem(encoders.CONTENDERS, "transformers, torch.compile")
    monkeypatch.setitem(encoders.TOLERANCES, "bfloat16", 1e-9)
    with pytest.raises(ValueError, match=r"small in bfloat16: the output differs from transformers, eager in float32"):
        encoders.measure("small", directory, "bfloat16", [1], seconds=0.5, rounds=1, limit=600)


def test_the_difference_is_a_share_of_the_size() -> None:
    reference = np.array([3.0, -4.0])
    assert encoders.relative_difference(reference, reference) == 0
    assert encoders.relative_difference(1.25 * reference, reference) == pytest.approx(0.25)
