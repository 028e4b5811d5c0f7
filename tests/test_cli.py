"""The command line: outputs, exit statuses, and what it says when something is wrong."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spectra_jax import cli
from tests.conftest import GOLDEN
from tests.golden import recipe

CLIPS = Path(__file__).parent.parent / "examples" / "clips"
PROGRAM = [sys.executable, "-c", "from spectra_jax.cli import main; main()"]


def spectra(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line in this process; the exit status."""
    monkeypatch.setattr(sys, "argv", ["spectra-jax", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code or 0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good clips and bad ones, in a folder whose name is not ASCII."""
    folder = tmp_path_factory.mktemp("corpus") / "Fälle"
    (folder / "inner").mkdir(parents=True)
    soundfile.write(folder / "a.wav", recipe.waveform(1, 20000), 16000)
    soundfile.write(folder / "inner" / "ж.flac", recipe.waveform(2, 30000), 16000)
    soundfile.write(folder / "silent.wav", np.zeros(9000), 16000)
    soundfile.write(folder / "nan.wav", np.full(900, np.nan), 16000, subtype="FLOAT")
    soundfile.write(folder / "cut.flac", recipe.waveform(3, 30000), 16000)
    os.truncate(folder / "cut.flac", 20000)
    (folder / "text.wav").write_text("no audio at all")
    (folder / "empty.wav").touch()
    return folder


@pytest.fixture(scope="module")
def scored(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One run over all of it, as a person starts it, with a broken clip among the good ones."""
    output = tmp_path_factory.mktemp("scores") / "scores.jsonl"
    words = ["score", "--model", "demo", "--precision", "float64", "--output", str(output), str(corpus)]
    return output, subprocess.run([*PROGRAM, *words], capture_output=True, text=True)


def test_one_bad_clip_costs_no_other(scored: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, run = scored
    assert run.returncode == 1
    assert run.stdout == ""
    rows = {row["utterance_id"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert list(rows) == ["a", "cut", "empty", "ж", "nan", "silent", "text"]  # by path: `inner` comes before `nan`
    assert {name for name, row in rows.items() if row["error"]} == {"cut", "empty", "nan", "text"}
    for name in ("cut", "empty", "nan", "text"):
        assert rows[name]["score"] is None
        assert f"skipped {name}: {rows[name]['error']}" in run.stderr
    assert "3 of 7 trials scored" in run.stderr
    assert "Traceback" not in run.stderr
    assert rows["silent"]["flags"] == ["silent"]
    assert rows["a"]["logits"][1] == rows["a"]["score"]
    assert rows["ж"]["seconds"] == 30000 / 16000


def test_formats_and_batches_agree(
    scored: tuple[Path, subprocess.CompletedProcess[str]],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {row["utterance_id"]: row for row in map(json.loads, scored[0].read_text().splitlines())}
    files = [corpus / "a.wav", corpus / "inner" / "ж.flac"]
    common = ["--model", "demo", "--precision", "float64", "--batch-size", 1]
    assert spectra(monkeypatch, "score", *common, "--output", tmp_path / "s.txt", *files) == 0
    text = (tmp_path / "s.txt").read_text()
    assert text == f"a {rows['a']['score']:.6f}\nж {rows['ж']['score']:.6f}\n"
    assert spectra(monkeypatch, "score", *common, "--id", "path", "--output", tmp_path / "s.csv", *files) == 0
    with (tmp_path / "s.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["utterance_id"] for row in table] == [str(path) for path in files]
    for row, name in zip(table, ("a", "ж"), strict=True):
        assert float(row["score"]) == pytest.approx(rows[name]["score"], rel=0, abs=1e-12)
    capsys.readouterr()
    assert spectra(monkeypatch, "score", *common, *files) == 0
    printed = capsys.readouterr().out
    assert f"{rows['a']['score']:.4f}" in printed
    assert "Higher = more bona fide" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["score", "--model", "demo", "nowhere.wav"], "nowhere.wav: no such file or folder"),
        (["score", "--model", "nowhere/", CLIPS / "june_00.flac"], "nowhere/: no such file or directory"),
        (["score", "--model", CLIPS, CLIPS / "june_00.flac"], "holds no model.safetensors"),
        (["score", "--model", CLIPS / "june_00.flac", CLIPS / "june_00.flac"], "not a safetensors file"),
        (["score", "--model", "demo", "--output", "s.xml", CLIPS], "s.xml: no known kind of result file"),
        (["score", "--model", "demo", "--output", "no/s.txt", CLIPS], "does not exist"),
        (["score", "--model", "demo", CLIPS / "june_00.flac", CLIPS], "shared by several trials"),
        (["score", "--model", "demo", "--precision", "float16", CLIPS], "float16"),
        (["score", "--model", "demo", "--batch-size", "0", CLIPS], "--batch-size"),
        (["score"], "Missing argument"),
        (["info", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["convert", "demo", CLIPS], "exists already"),
        (["convert", "demo", "no/where"], "no such directory"),
        (["convert", GOLDEN / "tiny" / "stages.safetensors", "out"], "a checkpoint of another model"),
    ],
)
def test_wrong_usage(
    words: list,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert spectra(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert "Traceback" not in printed.err + printed.out
    assert list(tmp_path.iterdir()) == []


def test_traceback_with_debug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert spectra(monkeypatch, "score", "--debug", "--model", "demo", "nowhere.wav") == 2
    assert "Traceback" in capsys.readouterr().err


def test_no_network_and_no_cache(tmp_path: Path) -> None:
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    environment.pop("HF_HUB_OFFLINE", None)
    words = ["score", str(CLIPS / "june_00.flac")]
    run = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, env=environment)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "local path" in run.stderr
    assert "--model demo" in run.stderr


def test_convert_there_and_back_and_info(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spectra(monkeypatch, "convert", GOLDEN / "tiny", tmp_path / "native") == 0
    assert spectra(monkeypatch, "convert", "--to", "torch", tmp_path / "native", tmp_path / "back") == 0
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["config.json", "model.safetensors"]
    capsys.readouterr()
    assert spectra(monkeypatch, "info", tmp_path / "native") == 0
    printed = capsys.readouterr().out
    for said in ("1,293,299", "3 layers, 64 wide", "16 spectral and 67 temporal", "cpu:0", "source sha256"):
        assert said in printed


def test_an_unforeseen_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("what")

    monkeypatch.setattr("spectra_jax.trials.collect", broken)
    assert spectra(monkeypatch, "score", "--model", "demo", CLIPS) == 2
    printed = capsys.readouterr().err
    assert "KeyError" in printed
    assert "--debug" in printed
    assert "Traceback" not in printed


def test_table_in_a_narrow_place() -> None:
    """Piped, or on a narrow terminal, the table still shows whole ids."""
    environment = os.environ | {"COLUMNS": "40"}
    words = ["score", "--model", "demo", str(CLIPS / "june_01_griffinlim.flac")]
    run = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, env=environment)
    assert run.returncode == 0
    assert "june_01_griffinlim" in run.stdout
    assert run.stderr == ""


def test_help_is_quick_to_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("score", "convert", "info"):
        assert spectra(monkeypatch, command, "--help") == 0
        assert "--debug" in capsys.readouterr().out
