"""The command line as a whole: wrong usage, errors and exit statuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import CLIPS, PROGRAM
from tests.conftest import GOLDEN, spectra


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "--model", "demo", "nowhere.wav"], "nowhere.wav: no such file or folder"),
        (["score", "--model", "nowhere/", CLIPS / "june_00.flac"], "nowhere/: no such file or directory"),
        (["score", "--model", CLIPS, CLIPS / "june_00.flac"], "holds no model.safetensors"),
        (["score", "--model", CLIPS / "june_00.flac", CLIPS / "june_00.flac"], "not a safetensors file"),
        (["score", "--model", "demo", "--output", "s.xml", CLIPS], "s.xml: not a known format of result files"),
        (["score", "--model", "demo", CLIPS / "june_00.flac", CLIPS], "1 file given more than once"),
        (["score", "--model", "demo", "--precision", "float8", CLIPS], "float8"),
        (["score", "--model", "demo", "--batch-size", "0", CLIPS], "'0' is neither a whole number"),
        (["score", "--model", "demo", "--batch-size", "many", CLIPS], "--batch-size"),
        (["score", "--model", "demo", "--devices", "0", CLIPS], "--devices"),
        (["score", "--model", "demo", "--devices", "99", CLIPS], "--devices 99, but there are"),
        (["score", "--model", "demo", "--aggregate", "mean", CLIPS], "--aggregate mean needs --windows"),
        (["score"], "Missing argument"),
        (["info", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["convert", "demo", CLIPS], "exists already"),
        (["convert", "demo", "model.h5"], "is the ending of a file"),
        (["convert", "demo", "model", "--to", "onnx"], "choose a name that ends in .onnx"),
        (["convert", GOLDEN / "tiny" / "stages.safetensors", "out"], "a checkpoint of another model"),
    ],
)
def test_wrong_usage(
    words: list[object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert spectra(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err + printed.out
    assert list(tmp_path.iterdir()) == []


def test_traceback_with_debug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert spectra(monkeypatch, "score", "--debug", "--model", "demo", "nowhere.wav") == 2
    assert "Traceback" in capsys.readouterr().err


def test_debug_of_one_command_is_not_kept_for_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spectra(monkeypatch, "score", "--debug", "--model", "demo", "nowhere.wav")
    capsys.readouterr()
    assert spectra(monkeypatch, "score", "--model", "demo", "nowhere.wav") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_without_network_or_cache_the_message_names_local_models(tmp_path: Path) -> None:
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    environment.pop("HF_HUB_OFFLINE", None)
    words = ["score", str(CLIPS / "june_00.flac")]
    run = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, env=environment)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "local path" in run.stderr
    assert "--model demo" in run.stderr


def test_an_unforeseen_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("what")

    monkeypatch.setattr("spectra_jax.data.sources.collect", broken)
    assert spectra(monkeypatch, "score", "--model", "demo", CLIPS) == 2
    printed = capsys.readouterr().err
    assert "KeyError" in printed
    assert "--debug" in printed
    assert "Traceback" not in printed
