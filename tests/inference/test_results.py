"""What scoring writes: that it reads back exactly, and that it is there whole or not at all."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.results import Result, check_output, table, write

SCORED = Result(Trial("real_1", Path("clips/real 1.wav"), "bonafide"), (-2.5, 1.0625009), 4.0375)
SILENT = Result(Trial("silent", Path("clips/silent.wav")), (0.1, -1 / 3), 0.5, ("silent", "short"))
SKIPPED = Result(Trial("cut", Path("clips/cut.wav"), "spoof"), None, None, (), 'clips/cut.wav: cut short, "so it is"')
RESULTS = [SCORED, SKIPPED, SILENT]
EXTENSIONS = [".txt", ".csv", ".jsonl"]

finite = st.floats(allow_nan=False, allow_infinity=False)
float32 = st.floats(allow_nan=False, allow_infinity=False, width=32)


def written(results: list[Result], output: Path) -> str:
    write(results, output)
    return output.read_bytes().decode()


# Formats


def test_the_score_file_is_the_arenas(tmp_path: Path) -> None:
    assert written(RESULTS, tmp_path / "scores.txt") == "real_1 1.062501\nsilent -0.333333\n"


def test_csv_has_a_line_for_every_trial(tmp_path: Path) -> None:
    text = written(RESULTS, tmp_path / "scores.csv")
    assert text.splitlines() == [
        "utterance_id,path,score,logit_spoof,logit_bonafide,seconds,label,flags,error,"
        "smallest_rank_gap,rank_gap_pool,log_likelihood_ratio,spoof_probability",
        "real_1,clips/real 1.wav,1.0625009,-2.5,1.0625009,4.0375,bonafide,,,,,,",
        'cut,clips/cut.wav,,,,,spoof,,"clips/cut.wav: cut short, ""so it is""",,,,',
        "silent,clips/silent.wav,-0.3333333333333333,0.1,-0.3333333333333333,0.5,,silent;short,,,,,",
    ]


def test_jsonl_has_an_object_for_every_trial(tmp_path: Path) -> None:
    records = [json.loads(line) for line in written(RESULTS, tmp_path / "scores.jsonl").splitlines()]
    empty = {"score": None, "logits": None, "seconds": None, "label": None, "flags": [], "error": None}
    assert records == [
        empty
        | {"utterance_id": "real_1", "path": "clips/real 1.wav", "label": "bonafide", "seconds": 4.0375}
        | {"score": 1.0625009, "logits": [-2.5, 1.0625009]},
        empty | {"utterance_id": "cut", "path": "clips/cut.wav", "label": "spoof", "error": SKIPPED.error},
        empty
        | {"utterance_id": "silent", "path": "clips/silent.wav", "seconds": 0.5, "flags": ["silent", "short"]}
        | {"score": -1 / 3, "logits": [0.1, -1 / 3]},
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.tuples(finite, finite), st.tuples(float32.map(np.float32), float32.map(np.float32)))))
def test_every_number_reads_back_exactly(tmp_path_factory, logits: list[tuple[float, float]]) -> None:
    folder = tmp_path_factory.mktemp("exact")
    results = [Result(Trial(str(n), Path("a.wav")), pair, pair[0]) for n, pair in enumerate(logits)]
    expected = [(float(spoof), float(bona_fide)) for spoof, bona_fide in logits]
    rows = list(csv.DictReader(io.StringIO(written(results, folder / "s.csv"), newline="")))
    records = [json.loads(line) for line in written(results, folder / "s.jsonl").splitlines()]
    for (spoof, bona_fide), row, record in zip(expected, rows, records, strict=True):
        numbers = [spoof, bona_fide, bona_fide, spoof]
        columns = [row[name] for name in ("logit_spoof", "logit_bonafide", "score", "seconds")]
        # As text, which tells -0.0 from 0.0.
        assert [repr(float(number)) for number in columns] == [repr(number) for number in numbers]
        assert repr([*record["logits"], record["score"], record["seconds"]]) == repr(numbers)


# NUL apart, which no path holds, and surrogates, which stand for bytes of a path that are not UTF-8.
@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_reads_back(tmp_path_factory, text: str) -> None:
    folder = tmp_path_factory.mktemp("text")
    result = Result(Trial("id", Path("a") / text.lstrip("/")), None, error=text)
    (row,) = csv.DictReader(io.StringIO(written([result], folder / "s.csv"), newline=""))
    record = json.loads(written([result], folder / "s.jsonl"))
    assert (row["path"], row["error"]) == (record["path"], record["error"]) == (str(result.trial.path), text)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_path_that_is_not_utf8_stops_no_writing(tmp_path: Path, extension: str) -> None:
    result = Result(Trial("id", Path("a\udcff.wav")), (0.0, 1.0))
    text = written([SCORED, result], tmp_path / f"s{extension}")
    assert len(text.splitlines()) == (3 if extension == ".csv" else 2)
    if extension == ".jsonl":
        assert json.loads(text.splitlines()[1])["path"] == "a\udcff.wav"


@pytest.mark.parametrize("name", ["two words", "line\nbreak", "\x1b", "\udcff", "no\u00a0break"])
def test_an_id_that_the_score_file_cannot_hold_is_refused_or_escaped(tmp_path: Path, name: str) -> None:
    result = Result(Trial(name, Path("a.wav")), (0.0, 1.0))
    output = tmp_path / "s.txt"
    with pytest.raises(InputError, match="cannot hold"):
        write([SCORED, result], output)
    assert not output.exists()
    write([SCORED, result], output, escape_ids=True)
    identity, score = output.read_text().splitlines()[1].split(" ")
    assert (unquote(identity), score) == (name.replace("\udcff", "\\udcff"), "1.000000")
    assert "\x1b" not in printed([result]) and "line\nbreak" not in printed([result])


def test_order_is_kept_and_any_iterable_taken(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(500)
    trials = (Result(Trial(f"u{number}", Path("a.wav")), (0.0, float(number))) for number in order)
    write(trials, tmp_path / "s.TXT")
    assert (tmp_path / "s.TXT").read_text().splitlines() == [f"u{number} {number:.6f}" for number in order]


# Results


def test_the_score_is_the_bona_fide_logit() -> None:
    assert SCORED.score == 1.0625009
    assert SKIPPED.score is None
    score = Result(SCORED.trial, (np.float32(0.1), np.float32(0.2))).score
    assert type(score) is float
    assert score == float(np.float32(0.2))


@pytest.mark.parametrize(
    ("logits", "seconds", "error"),
    [
        (None, 1.0, None),
        ((0.0, 1.0), 1.0, "skipped"),
        ((float("nan"), 0.0), 1.0, None),
        ((0.0, float("inf")), 1.0, None),
        ((0.0, 1.0), float("nan"), None),
    ],
)
def test_results_that_contradict_themselves_are_refused(logits, seconds: float, error: str | None) -> None:
    with pytest.raises(ValueError, match="real_1"):
        Result(SCORED.trial, logits, seconds, (), error)


# Whole or not at all


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", ["an older file\n", None])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch, extension: str, call: str, old) -> None:
    output = tmp_path / f"scores{extension}"
    if old is not None:
        output.write_text(old)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write(RESULTS, output)
    assert [path.name for path in tmp_path.iterdir()] == ([] if old is None else [output.name])
    assert old is None or output.read_text() == old


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_failure_in_the_results_leaves_what_was_there(tmp_path: Path, failure: type[BaseException]) -> None:
    output = tmp_path / "scores.csv"
    output.write_text("an older file\n")

    def results() -> Iterator[Result]:
        yield SCORED
        # Until the last moment the old file stands, and the new one is beside it.
        assert output.read_text() == "an older file\n"
        assert len(list(tmp_path.iterdir())) == 2
        raise failure

    with pytest.raises(failure):
        write(results(), output)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
    assert output.read_text() == "an older file\n"


def test_the_file_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch) -> None:
    output = tmp_path / "scores.txt"
    fsync, sizes = os.fsync, []

    def record(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        assert not output.exists()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write(RESULTS, output)
    assert sizes == [output.stat().st_size]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write(RESULTS, tmp_path / "scores.txt")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "scores.txt").stat().st_mode) == mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "scores.txt"
    link.symlink_to(tmp_path / "disk" / "real.txt")
    check_output(link)
    write(RESULTS, link)
    assert link.is_symlink()
    assert (tmp_path / "disk" / "real.txt").read_text().startswith("real_1 ")


# Before scoring


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_good_output_passes_and_leaves_nothing_behind(tmp_path: Path, extension: str) -> None:
    check_output(tmp_path / f"scores{extension}")
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written_are_refused_before_scoring(tmp_path: Path, monkeypatch) -> None:
    def refusal(output: Path) -> str:
        with pytest.raises(InputError) as caught:
            check_output(output)
        assert str(caught.value).startswith(f"{output}: ")
        return str(caught.value)

    for name in ("scores.xlsx", "scores", "scores.json"):
        assert refusal(tmp_path / name).endswith(".txt, .csv, .jsonl")
        with pytest.raises(InputError, match="not a known format"):
            write(RESULTS, tmp_path / name)
    check_output(tmp_path / "missing" / "s.txt")
    assert not (tmp_path / "missing").exists()
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "s.txt").endswith("file is not a folder")
    (tmp_path / "folder.txt").mkdir()
    assert refusal(tmp_path / "folder.txt").endswith("a folder of this name is there already")
    os.mkfifo(tmp_path / "pipe.txt")
    assert refusal(tmp_path / "pipe.txt").endswith("not a plain file")

    def deny(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    # Not chmod, which an administrator writes past.
    monkeypatch.setattr(os, "open", deny)
    assert refusal(tmp_path / "s.txt").endswith("cannot be written: Read-only file system")


# For people


def printed(results: list[Result], width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    table(results, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_says_what_a_score_means_and_what_was_skipped() -> None:
    text = printed(RESULTS)
    assert "2 scored, 1 skipped. Higher = more bona fide (human). No threshold is applied." in " ".join(text.split())
    lines = [line for line in text.splitlines() if "│" in line]
    assert [next(name for name in ("real_1", "cut", "silent") if name in line) for line in lines] == [
        "real_1",
        "cut",
        "silent",
    ]
    assert "1.0625" in lines[0]
    assert "4.04" in lines[0]
    assert "bonafide" in lines[0]
    assert "skipped: clips/cut.wav: cut short" in lines[1]
    assert "-0.3333" in lines[2]
    assert "silent, short" in lines[2]


def test_the_table_has_labels_only_where_there_are_any_and_counts_no_skips_without_any() -> None:
    assert "label" in printed([SCORED])
    assert "label" not in printed([SILENT])
    assert "skipped" not in printed([SCORED, SILENT])


def test_brackets_in_a_name_are_no_markup_and_long_names_are_not_cut() -> None:
    result = Result(Trial("[red]take[1]" + "x" * 200, Path("a.wav")), (0.0, -12.3456))
    text = printed([result], width=60)
    assert "[red]take[1]" in text
    assert text.count("x") == 200
    assert "-12.3456" in text
