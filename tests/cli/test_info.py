"""`spectra-jax info`: architecture, size, devices and provenance of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GOLDEN, spectra


def test_a_converted_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert spectra(monkeypatch, "convert", GOLDEN / "tiny", tmp_path / "native") == 0
    capsys.readouterr()
    assert spectra(monkeypatch, "info", tmp_path / "native") == 0
    printed = capsys.readouterr().out
    for fact in ("1,293,299", "3 layers, 64 wide", "16 spectral and 67 temporal", "cpu:0", "source sha256"):
        assert fact in printed
