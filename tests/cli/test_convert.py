"""`spectra-jax convert`: to the native format, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GOLDEN, spectra


def test_to_the_native_format_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spectra(monkeypatch, "convert", GOLDEN / "tiny", tmp_path / "native") == 0
    assert capsys.readouterr().err == f"{GOLDEN / 'tiny'} -> {tmp_path / 'native'} (native)\n"
    assert spectra(monkeypatch, "convert", "--to", "torch", tmp_path / "native", tmp_path / "back") == 0
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["config.json", "model.safetensors"]


def test_a_weight_file_of_another_architecture_is_said_to_need_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.safetensors"
    assert spectra(monkeypatch, "convert", "--to", "torch", GOLDEN / "tiny", file) == 0
    assert "Put the config.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
