"""`spectra-jax inspect`."""

from __future__ import annotations

import json
import shutil
import sys
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


def test_the_threshold_is_stated_also_where_no_recording_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.wav").write_text("text")
    words = ["inspect", "--model", "demo", str(tmp_path / "bad.wav")]
    assert spectra(monkeypatch, *words) == 1
    assert "No threshold is applied" in capsys.readouterr().out
    assert spectra(monkeypatch, *words, "--threshold", "0") == 1
    assert "No threshold is applied" not in capsys.readouterr().out
    assert spectra(monkeypatch, *words, "--threshold", "0", "--json") == 1
    assert json.loads(capsys.readouterr().out)["recordings"][0]["threshold"]["value"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threshold", "best"], "threshold 'best': neither a number nor one of published-code"),
        (["--threshold", "1.75e308"], "threshold 1.75e+308: a number from -1,000,000 to 1,000,000 is expected"),
        (["--windows", "soon"], "windows 'soon': neither hop=SECONDS"),
        (["--windows", "first", "--aggregate", "mean"], "aggregate 'mean' needs several windows"),
        (["--srt", "one.srt", str(CLIPS / "june_00.flac")], "one file for 2 recordings"),
        (["--csv", "w.txt"], "its name must end in .csv"),
        (["--html", "w.txt"], "its name must end in .html"),
    ],
)
def test_wrong_usage(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spectra(monkeypatch, "inspect", "--model", "demo", str(CLIP), *words) == 2
    assert message in capsys.readouterr().err


def test_a_page_of_a_recording_and_of_one_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("altair", reason="needs the extra `report`")
    pytest.importorskip("vl_convert", reason="needs the extra `report`")
    hostile = tmp_path / "<script>alert(1)<" / 'script> "q" 😀.flac'
    hostile.parent.mkdir()
    shutil.copy(CLIP, hostile)
    (tmp_path / "empty.wav").touch()
    output = tmp_path / "new" / "page.html"
    words = ["inspect", "--model", "demo", "--threshold", "0", "--json", "--html", str(output)]
    assert spectra(monkeypatch, *words, str(tmp_path / "empty.wav"), str(hostile)) == 1
    printed = capsys.readouterr()
    _, found = json.loads(printed.out)["recordings"]
    assert f"{output}: 0." in printed.err and "MB; open it in a browser" in printed.err
    html = output.read_text()
    for text in (f"{found['score']:.4f}", found["sha256"], json.loads(printed.out)["weights_sha256"], "0 bytes"):
        assert text in html
    assert "<script>alert" not in html and "data:audio/flac" in html


def test_a_page_needs_its_extra_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert spectra(monkeypatch, "inspect", "--model", "nowhere", str(CLIP), "--html", str(tmp_path / "p.html")) == 2
    assert "need jinja2: pip install 'spectra-jax[report]'" in capsys.readouterr().err
