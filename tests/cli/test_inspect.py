"""`spectra-jax inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import CLIPS
from tests.conftest import spectra

CLIP = CLIPS / "june_13.flac"


def test_one_bad_file_never_costs_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("text")
    files = ["--csv", str(tmp_path / "w.csv"), "--srt", str(tmp_path / "srt"), "--audacity", str(tmp_path / "labels")]
    words = ["inspect", "--model", "demo", "--json", "--threshold", "0", *files, str(bad), str(CLIP)]
    assert spectra(monkeypatch, *words) == 1
    read = json.loads(capsys.readouterr().out)
    assert [one["error"] is None for one in read["recordings"]] == [False, True]
    assert len(read["weights_sha256"]) == 64
    assert [path.name for path in (tmp_path / "srt").iterdir()] == ["june_13.srt"]
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["june_13.txt"]
    assert (tmp_path / "w.csv").read_text("utf-8-sig").count("\n") == 2 + len(read["recordings"][1]["windows"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threshold", "best"], "threshold 'best': neither a finite number nor one of published-code"),
        (["--windows", "soon"], "'soon' is neither hop=SECONDS"),
        (["--windows", "first", "--aggregate", "mean"], "--aggregate mean needs several windows"),
        (["--srt", "one.srt", str(CLIPS / "june_00.flac")], "one file for 2 recordings"),
        (["--csv", "w.txt"], "its name must end in .csv"),
    ],
)
def test_wrong_usage(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spectra(monkeypatch, "inspect", "--model", "demo", str(CLIP), *words) == 2
    assert message in capsys.readouterr().err
