"""The command line: outputs, exit statuses, and what it says when something is wrong."""

from __future__ import annotations

import csv
import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from rich.console import Console

from spectra_jax import cli
from spectra_jax.cli import options
from spectra_jax.data.trial import Trial
from spectra_jax.inference.results import Result, table
from spectra_jax.inference.scorer import Scorer
from tests.conftest import GOLDEN, spectra
from tests.golden import recipe

CLIPS = Path(__file__).parents[2] / "examples" / "corpus" / "eval"
PROGRAM = [sys.executable, "-c", "from spectra_jax.cli import main; main()"]


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
    common = ["--model", "demo", "--precision", "float64", "--batch-size", "3"]
    words = ["score", *common, "--output", str(output), str(corpus)]
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["score", "--model", "demo", "nowhere.wav"], "nowhere.wav: no such file or folder"),
        (["score", "--model", "nowhere/", CLIPS / "june_00.flac"], "nowhere/: no such file or directory"),
        (["score", "--model", CLIPS, CLIPS / "june_00.flac"], "holds no model.safetensors"),
        (["score", "--model", CLIPS / "june_00.flac", CLIPS / "june_00.flac"], "not a safetensors file"),
        (["score", "--model", "demo", "--output", "s.xml", CLIPS], "s.xml: not a known format of result files"),
        (["score", "--model", "demo", CLIPS / "june_00.flac", CLIPS], "1 file given more than once"),
        (["score", "--model", "demo", "--precision", "float16", CLIPS], "float16"),
        (["score", "--model", "demo", "--batch-size", "0", CLIPS], "'0' is neither a whole number"),
        (["score", "--model", "demo", "--batch-size", "many", CLIPS], "--batch-size"),
        (["score", "--model", "demo", "--devices", "0", CLIPS], "--devices"),
        (["score", "--model", "demo", "--devices", "99", CLIPS], "--devices 99, but there are"),
        (["score", "--model", "demo", "--aggregate", "mean", CLIPS], "--aggregate mean: only the first window"),
        (["score"], "Missing argument"),
        (["info", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["convert", "demo", CLIPS], "exists already"),
        (["convert", "demo", "model.onnx"], "is the ending of a file"),
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

    monkeypatch.setattr("spectra_jax.data.sources.collect", broken)
    assert spectra(monkeypatch, "score", "--model", "demo", CLIPS) == 2
    printed = capsys.readouterr().err
    assert "KeyError" in printed
    assert "--debug" in printed
    assert "Traceback" not in printed


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits without a compiled network, for tests of what goes on around it."""
    lowered = SimpleNamespace(compile=lambda options: None)
    monkeypatch.setattr(Scorer, "_forward", lambda *_: (SimpleNamespace(lower=lambda: lowered), ()))
    monkeypatch.setattr(Scorer, "_begin", lambda self, windows: windows[:, :2].astype(np.float64))


def test_output_is_replaced_by_a_whole_one_only(
    no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "s.txt"
    output.write_text("the last run's\n")
    words = ["score", "--model", "demo", "--batch-size", 1, "--output", output, CLIPS / "june_00.flac"]
    with monkeypatch.context() as broken:
        score_trials = Scorer.score_trials

        def fails_midway(self: Scorer, trials: list[Trial], **options: object) -> object:
            yield next(score_trials(self, trials, **options))
            raise OSError(28, "No space left on device")

        broken.setattr(Scorer, "score_trials", fails_midway)
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


@pytest.mark.parametrize(("asked", "expected"), [("2", 2), ("8", 3), ("auto", 3)])
def test_no_larger_batch_than_there_are_trials(
    asked: str, expected: int, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Scorer] = []
    load = Scorer.load

    def seen(self: Scorer, **how: object) -> None:
        made.append(self)
        load(self, **how)

    monkeypatch.setattr(Scorer, "load", seen)
    clips = sorted(CLIPS.glob("june_0?.flac"))[:3]
    assert spectra(monkeypatch, "score", "--model", "demo", "--devices", 1, "--batch-size", asked, *clips) == 0
    assert [scorer.batch_size for scorer in made] == [expected]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_bar_on_a_terminal_only(no_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    begin = Scorer._begin

    def slowly(self: Scorer, windows: np.ndarray) -> object:
        time.sleep(0.5)  # the bar is drawn ten times a second
        return begin(self, windows)

    monkeypatch.setattr(Scorer, "_begin", slowly)
    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        # In the module, which the function of that name hides; a console asks what it writes to when it is made.
        monkeypatch.setattr(sys.modules["spectra_jax.cli.score"], "stderr", Console(file=stream))
        assert spectra(monkeypatch, "score", "--model", "demo", CLIPS / "june_00.flac") == 0
        assert ("scoring" in stream.getvalue()) == shown


def test_the_progress_bar_counts_the_windows_of_one_long_recording(
    no_network: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(64_600 + 3 * 16_000), 16_000)
    monkeypatch.setenv("TERM", "xterm")
    begin, stream = Scorer._begin, Terminal()

    def slowly(self: Scorer, windows: np.ndarray) -> object:
        time.sleep(0.25)  # the bar is drawn ten times a second
        return begin(self, windows)

    monkeypatch.setattr(Scorer, "_begin", slowly)
    monkeypatch.setattr(sys.modules["spectra_jax.cli.score"], "stderr", Console(file=stream))
    command = ("score", "--model", "demo", "--batch-size", 1, "--windows", "hop=1", tmp_path / "long.wav")
    assert spectra(monkeypatch, *command) == 0
    assert "scoring, 1 window " in stream.getvalue()
    assert "scoring, 3 windows " in stream.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60])
def test_ids_and_scores_are_whole_on_any_terminal(width: int) -> None:
    error = "/corpus/sub/folder/broken.wav: not an audio file, or in a format libsndfile does not know"
    rows = [
        Result(Trial("a_name_longer_than_its_column", Path("a.wav"), "bonafide"), (0.0, -1234.5678), 123456.25),
        Result(Trial("broken", Path("b.wav"), "spoof"), None, error=error),
    ]
    console = Console(file=io.StringIO(), width=width)
    table(rows, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    ids = "".join(line.split("│")[1].strip() for line in printed.splitlines() if "│" in line)
    assert ids == "a_name_longer_than_its_columnbroken"
    for said in ("-1234.5678", "bonafide", "spoof", "Left out on a terminal this narrow: seconds."):
        assert said in " ".join(printed.split())


def test_names_that_the_output_cannot_encode_are_escaped(
    no_network: None, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert spectra(monkeypatch, "score", "--model", "demo", corpus / "inner" / "ж.flac") == 0
    sys.stdout.flush()
    assert b"\\u0436" in raw.getvalue()


def test_a_closed_pipe_is_no_error_to_tell_of() -> None:
    process = subprocess.Popen([*PROGRAM, "info", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == ""
    process.wait(timeout=60)


@pytest.mark.slow
def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C, while the network is traced, compiled or run: no output, whole or half, and no traceback."""
    rows = [f"{CLIPS / 'june_01.flac'},{place}\n" for place in range(5000)]
    (tmp_path / "trials.csv").write_text("path,utterance_id\n" + "".join(rows))
    words = ["score", "--model", "demo", "--output", str(tmp_path / "scores.txt"), str(tmp_path / "trials.csv")]
    for seconds in (0.3, 2, 5):
        with subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, text=True) as process:
            try:
                deadline = time.monotonic() + 60
                while not list(tmp_path.glob(".scores.txt.*")):
                    assert time.monotonic() < deadline, "scoring did not begin"
                    time.sleep(0.05)
                time.sleep(seconds)
                process.send_signal(signal.SIGINT)
                _, printed = process.communicate(timeout=60)
            finally:
                process.kill()
        assert printed == "spectra-jax: interrupted; no output was written\n"
        assert process.returncode == 130
        assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]


def test_ctrl_c_is_not_lost_in_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python drops what a callback of the collector raises, and JAX has such a callback."""
    before = sys.unraisablehook

    def interrupt(phase: str, info: dict) -> None:
        gc.callbacks.remove(interrupt)
        raise KeyboardInterrupt

    def long_work(*_: object, **__: object) -> None:
        gc.callbacks.append(interrupt)
        gc.collect()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.01)

    class Left(BaseException):
        pass

    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr("spectra_jax.data.sources.collect", long_work)
    monkeypatch.setattr(options, "on_interrupt", "what a command before this one left")
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "argv", ["spectra-jax", "score", "--model", "demo", str(CLIPS)])
    with pytest.raises(Left, match="130"):
        cli.main()
    assert capsys.readouterr().err == "spectra-jax: interrupted; no output was written\n"
    assert sys.unraisablehook is before


@pytest.mark.slow
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


# Names and what is left out

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
def test_any_file_name_is_scored_and_none_reaches_the_terminal_as_it_is(
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
        assert not (tmp_path / output).exists(), "it is known before anything is scored"
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
def test_inputs_that_cannot_be_read_are_named_and_cost_the_exit_status(
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


def test_files_of_one_name_are_said_to_be_called_by_their_paths(
    no_network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("real", "fake"):
        (tmp_path / "clips" / folder).mkdir(parents=True)
        (tmp_path / "clips" / folder / "0.flac").write_bytes((CLIPS / "june_00.flac").read_bytes())
    assert spectra(monkeypatch, "score", "--model", "demo", "--batch-size", 1, "clips", "-o", "s.txt") == 0
    assert [line.split()[0] for line in (tmp_path / "s.txt").read_text().splitlines()] == ["fake/0.flac", "real/0.flac"]
    assert "2 trials with file names that are not unique: their paths are their ids" in capsys.readouterr().err
