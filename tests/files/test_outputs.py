"""Output files of commands: folders are created for them, failures leave nothing, a replaced file is reported."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from spectra_jax.data.score_files import read_scores
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.files.outputs import output_file, require_writable
from spectra_jax.inference.results import Result, check_output, write
from tests.arena_datasets import STATED
from tests.conftest import spectra

INPUTS = Path(__file__).parents[1] / "inputs" / "tables"
CLIP = Path(__file__).parents[2] / "examples" / "corpus" / "eval" / "june_00.flac"
LABELS = ["--labels", INPUTS / "p21la.txt"]
COMMANDS = {
    "evaluate --plot": (["evaluate", INPUTS / "s.txt", *LABELS, "--resamples", 0, "--plot"], "det.svg"),
    "evaluate --result": (
        [
            "evaluate",
            INPUTS / "s.txt",
            *LABELS,
            *STATED,
            "--system",
            "s",
            "--dataset",
            "a/b",
            "--revision",
            "0123abc",
            "--result",
        ],
        "result.yaml",
    ),
    "compare": (["compare", INPUTS / "s.txt", INPUTS / "s.txt", "--output"], "c.csv"),
    "calibrate": (["calibrate", INPUTS / "s.txt", *LABELS, "--output"], "c.json"),
    "report": (["report", INPUTS / "s.txt", *LABELS, "--resamples", 0, "--output"], "r.html"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_folders_are_created_and_a_replaced_file_is_reported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "report" or "plot" in name:
        pytest.importorskip("altair", reason="needs the extra `report`")
        pytest.importorskip("vl_convert", reason="needs the extra `report`")
    words, file = COMMANDS[name]
    output = tmp_path / "new" / "deeper" / file
    assert spectra(monkeypatch, *words, output) == 0
    assert "replaced" not in capsys.readouterr().err
    assert output.stat().st_size > 0 and os.listdir(output.parent) == [file]  # noqa: PTH208
    assert spectra(monkeypatch, *words, output) == 0
    assert f"{output}: exists and will be replaced\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_fails_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, file = COMMANDS[name]
    missing = [tmp_path / "no.txt" if word == INPUTS / "s.txt" else word for word in words]
    assert spectra(monkeypatch, *missing, tmp_path / "new" / file) == 2
    assert "no.txt: cannot be read" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert spectra(monkeypatch, *words, tmp_path / "file" / file) == 2
    assert f"{tmp_path / 'file'} is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "file", "suffix"), [("compare", "c.txt", ".csv"), ("calibrate", "c.yaml", ".json")])
def test_a_suffix_of_another_format_is_refused(
    name: str,
    file: str,
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert spectra(monkeypatch, *COMMANDS[name][0], tmp_path / file) == 2
    assert f"{file}: this file is written as {suffix}; its name must end in {suffix}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["score", "--model", "demo", CLIP, "--output"], ["convert", "demo"]])
def test_a_folder_that_cannot_be_created_is_named(
    words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert spectra(monkeypatch, *words, f"{tmp_path}/file/run/") == 2
    message = capsys.readouterr().err
    assert "Errno" not in message and f"{tmp_path / 'file'}" in message


def test_scores_in_a_new_folder(tmp_path: Path) -> None:
    results = [Result(Trial("a", Path("a.wav")), (0.0, 1.0), 1.0)]
    check_output(tmp_path / "new" / "s.csv")
    assert list(tmp_path.iterdir()) == []
    write(results, tmp_path / "new" / "s.csv")
    assert read_scores(tmp_path / "new" / "s.csv").scores.tolist() == [1.0]


def test_a_calibration_in_a_new_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spectra(monkeypatch, *COMMANDS["calibrate"][0], tmp_path / "new") == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["calibration.json"]


def test_a_failed_file_leaves_no_folders_that_were_created_for_it(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    path = tmp_path / "old" / "new" / "deeper" / "a.txt"
    with pytest.raises(KeyboardInterrupt), output_file(path) as file:
        file.write(b"unfinished")
        raise KeyboardInterrupt
    assert list((tmp_path / "old").iterdir()) == []
    with pytest.raises(RuntimeError), output_file(path):
        (path.parent / "another program's").touch()
        raise RuntimeError
    assert [entry.name for entry in path.parent.iterdir()] == ["another program's"]
    shutil.rmtree(path.parent)
    with output_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_paths_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "a.txt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path, "a folder of this name"),
        (tmp_path / "pipe", "not a plain file"),
        (tmp_path / "loop" / "a.txt", "loop"),
        (tmp_path / "a\0b", "cannot be written"),
        (tmp_path / ("a" * 300), "cannot be written"),
    ):
        with pytest.raises(InputError, match=message):
            require_writable(path)
