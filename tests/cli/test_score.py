"""`spectra-jax score`: tables, files and runs, what is skipped, and what is printed of it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from urllib.parse import unquote

import pytest
from rich.console import Console

from spectra_jax.data.trial import Trial
from spectra_jax.inference.results import Result
from spectra_jax.reporting.results_table import print_results
from tests.cli.conftest import CLIPS, PROGRAM, StandInScorer
from tests.conftest import spectra


@pytest.fixture(scope="module")
def scored(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One run over all of it, as a process of its own, with broken clips among the good ones."""
    output = tmp_path_factory.mktemp("scores") / "scores.jsonl"
    common = ["--model", "demo", "--precision", "float64", "--batch-size", "3"]
    words = ["score", *common, "--output", str(output), str(corpus)]
    return output, subprocess.run([*PROGRAM, *words], capture_output=True, text=True)


def test_a_bad_clip_is_skipped_and_all_others_are_scored(scored: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
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
    assert "scored silent, but: silent" in run.stderr
    assert rows["a"]["logits"][1] == rows["a"]["score"]
    assert rows["ж"]["seconds"] == 30000 / 16000


@pytest.mark.slow
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


def test_output_is_replaced_by_a_complete_one_only(
    no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "s.txt"
    output.write_text("the last run's\n")
    words = ["score", "--model", "demo", "--batch-size", 1, "--output", output, CLIPS / "june_00.flac"]
    with monkeypatch.context() as broken:
        score_trials = StandInScorer.score_trials

        def fails_midway(self: StandInScorer, trials: Iterable[Trial], **options: object) -> Generator[Result]:
            yield next(score_trials(self, trials))
            raise OSError(28, "No space left on device")

        broken.setattr(StandInScorer, "score_trials", fails_midway)
        assert spectra(broken, *words, CLIPS / "june_01.flac") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert output.read_text() == "the last run's\n"
    assert spectra(monkeypatch, *words) == 0
    assert output.read_text().startswith("june_00 ")
    assert list(tmp_path.iterdir()) == [output]


def test_an_input_is_never_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "trials.csv"
    manifest.write_text("path\na.wav\n")
    monkeypatch.chdir(tmp_path)
    assert spectra(monkeypatch, "score", "--model", "demo", "--output", "trials.csv", manifest) == 2
    assert "trials.csv: an input, which the scores would replace" in capsys.readouterr().err
    assert manifest.read_text() == "path\na.wav\n"


def test_names_that_the_output_cannot_encode_are_escaped(
    no_network: None, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert spectra(monkeypatch, "score", "--model", "demo", corpus / "inner" / "ж.flac") == 0
    sys.stdout.flush()
    assert b"\\u0436" in raw.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60])
def test_ids_and_scores_are_complete_on_any_terminal(width: int) -> None:
    error = "/corpus/sub/folder/broken.wav: not an audio file, or in a format libsndfile does not know"
    rows = [
        Result(Trial("a_name_longer_than_its_column", Path("a.wav"), "bonafide"), (0.0, -1234.5678), 123456.25),
        Result(Trial("broken", Path("b.wav"), "spoof"), None, error=error),
    ]
    console = Console(file=io.StringIO(), width=width)
    print_results(rows, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    ids = "".join(line.split("│")[1].strip() for line in printed.splitlines() if "│" in line)
    assert ids == "a_name_longer_than_its_columnbroken"
    for words in ("-1234.5678", "bonafide", "spoof", "Left out on a terminal this narrow: seconds."):
        assert words in " ".join(printed.split())


@pytest.mark.slow
def test_a_table_in_a_pipe_has_complete_ids() -> None:
    environment = os.environ | {"COLUMNS": "40"}
    words = ["score", "--model", "demo", str(CLIPS / "june_01_griffinlim.flac")]
    run = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, env=environment)
    assert run.returncode == 0
    assert "june_01_griffinlim" in run.stdout
    assert run.stderr == ""


@pytest.mark.parametrize("hop", [[], ["--windows", "hop=1", "--aggregate", "mean"]])
def test_the_progress_bar_counts_windows_where_all_are_scored(
    no_network: None, monkeypatch: pytest.MonkeyPatch, hop: list[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    monkeypatch.setattr("spectra_jax.cli.output.stderr", Console(file=stream, force_terminal=True, width=100))
    assert spectra(monkeypatch, "score", "--model", "demo", *hop, CLIPS / "june_00.flac") == 0
    bar = stream.getvalue()
    assert "scoring" in bar and "1/1" in bar
    assert ("3 windows" in bar) == bool(hop)


# ---- file names, and what is left out ----------------------------------------------------------------------------

NAMES = ("two words", "line\nspectra-jax: all is well", "\x1b[31mred", "\x9b31m", "\u202egpj", b"byte\xff")


@pytest.fixture
def odd_names(tmp_path: Path) -> Path:
    """Clips, and a file that is none, whose names have white space, control characters and bytes that are not UTF-8."""
    folder = tmp_path / "odd"
    folder.mkdir()
    clip = (CLIPS / "june_00.flac").read_bytes()
    for name in NAMES:
        (folder / f"{os.fsdecode(name)}.flac").write_bytes(clip)
    (folder / "\x1b[2Jbroken\nforged.wav").write_text("no audio")
    (folder / "left\nout\x1b[2J.txt").touch()
    return folder


@pytest.mark.parametrize("output", ["", "s.csv", "s.jsonl", "s.txt", "run/"])
def test_any_file_name_is_scored_and_no_control_character_reaches_the_terminal(
    no_network: None,
    odd_names: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    output: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["score", "--model", "demo", "--batch-size", 1, "--devices", 1, odd_names]
    words += ["-o", output] if output else []
    if output in ("s.txt", "run/"):
        assert spectra(monkeypatch, *words) == 2
        refused = capsys.readouterr().err
        assert "6 utterance ids with white space" in refused and "--escape-ids" in refused
        assert not (tmp_path / output).exists(), "known before anything is scored"
        words.append("--escape-ids")
    assert spectra(monkeypatch, *words) == 1
    printed = capsys.readouterr()
    assert not set(printed.err + printed.out) & {"\x1b", "\x9b", "\u202e", "\udcff"}
    assert not any(line.startswith(("spectra-jax: all", "forged")) for line in printed.err.splitlines())
    assert "1 file left out: 1 .txt" in printed.err and "left\\x0aout\\x1b[2J.txt" in printed.err
    assert "skipped \\x1b[2Jbroken\\x0aforged: " in printed.err
    ids = sorted(os.fsdecode(name) for name in NAMES)
    escaped = [name.replace("\udcff", "\\udcff") for name in ids]
    if output == "s.csv":
        with (tmp_path / output).open(newline="") as file:
            assert sorted(row["utterance_id"] for row in csv.DictReader(file) if row["score"]) == sorted(escaped)
    elif output == "s.jsonl":
        rows = [json.loads(line) for line in (tmp_path / output).read_text().splitlines()]
        assert sorted(row["utterance_id"] for row in rows if row["score"] is not None) == ids
    elif output:
        text = (tmp_path / output / "scores.txt" if output == "run/" else tmp_path / output).read_text()
        assert sorted(unquote(line.split()[0]) for line in text.splitlines()) == sorted(escaped)
    if output == "run/":
        from spectra_jax.jobs import Store
        from spectra_jax.jobs.parts import read_part

        assert sorted(
            row["utterance_id"] for row in read_part(Store(tmp_path / "run"), 0).to_pylist() if row["score"] is not None
        ) == sorted(escaped)


@pytest.mark.parametrize("output", ["s.csv", "run/"])
def test_inputs_that_cannot_be_read_are_named_and_set_the_exit_status(
    no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.flac").write_bytes((CLIPS / "june_00.flac").read_bytes())
    (tmp_path / "clips" / "loop").symlink_to("loop")
    words = ["score", "--model", "demo", "--batch-size", 1, "--devices", 1, "clips", "-o", output]
    assert spectra(monkeypatch, *words) == 1
    printed = capsys.readouterr().err
    assert "1 input not read, and clips in there are not scored:\n  clips/loop: Too many levels" in printed
    assert "1 of 1 trials scored" in printed


def test_files_of_one_name_are_reported_to_have_paths_as_ids(
    no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("real", "fake"):
        (tmp_path / "clips" / folder).mkdir(parents=True)
        (tmp_path / "clips" / folder / "0.flac").write_bytes((CLIPS / "june_00.flac").read_bytes())
    assert spectra(monkeypatch, "score", "--model", "demo", "--batch-size", 1, "clips", "-o", "s.txt") == 0
    assert [line.split()[0] for line in (tmp_path / "s.txt").read_text().splitlines()] == ["fake/0.flac", "real/0.flac"]
    assert "2 trials with file names that are not unique: their paths are their ids" in capsys.readouterr().err
