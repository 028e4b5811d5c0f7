"""`spectra-jax info`: architecture, size, devices and provenance of a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.conftest import GOLDEN, spectra


def test_a_converted_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert spectra(monkeypatch, "convert", GOLDEN / "tiny", tmp_path / "native") == 0
    capsys.readouterr()
    assert spectra(monkeypatch, "info", tmp_path / "native") == 0
    printed = capsys.readouterr().out
    for fact in ("1,293,299", "3 layers, 64 wide", "16 spectral and 67 temporal", "cpu:0", "source sha256"):
        assert fact in printed


ENCODER = {"model_type": "wavlm", "hidden_size": 48, "num_hidden_layers": 2, "do_stable_layer_norm": True}


def test_an_encoder_is_described_by_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(ENCODER))
    save_file({"a": np.ones(1, np.float16)}, tmp_path / "model.safetensors")
    monkeypatch.setenv("COLUMNS", "300")
    assert spectra(monkeypatch, "info", tmp_path) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for fact in (
        "a speech encoder alone",
        "architecture WavLM",
        "parameters 4,863,928",
        "dtype float16",
        "7 convolutions, 2 layers, 48 wide, 12 heads, feed-forward 3072; layer norm before attention",
        "50 per second at 16,000 Hz; the first needs 400 samples",
        "spectra-jax train --encoder",
    ):
        assert fact in printed, printed


def test_an_encoder_that_cannot_be_loaded_is_described_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**ENCODER, "add_adapter": True}))
    monkeypatch.setenv("COLUMNS", "300")
    assert spectra(monkeypatch, "info", tmp_path) == 0
    assert "cannot be loaded  config: add_adapter = true changes what" in capsys.readouterr().out
