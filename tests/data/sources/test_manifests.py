"""Manifests in every format, and lists of paths on standard input."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from spectra_jax.data.sources import collect
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from tests.data.sources.writing import ROWS, decoding_error, manifest, refusal, summaries, write_rows, write_tar


def test_a_manifest_gives_paths_ids_and_labels(tmp_path: Path) -> None:
    text = "utterance_id,label,path,speaker\nu1,bonafide,a.wav,anna\nu2,spoof,/far/b.wav,\nu3,,sub/c.wav,x\n"
    assert list(collect([manifest(tmp_path, text)])) == [
        Trial("u1", tmp_path / "a.wav", "bonafide"),
        Trial("u2", Path("/far/b.wav"), "spoof"),
        Trial("u3", tmp_path / "sub/c.wav", None),
    ]


@pytest.mark.parametrize("ids", ["stem", "path"])
def test_ids_of_a_manifest_come_first(tmp_path: Path, ids: str) -> None:
    path = manifest(tmp_path, "path,utterance_id\nsub/a.wav,u1\n")
    assert next(iter(collect([path], ids=ids))).utterance_id == "u1"  # type: ignore[arg-type]


def test_a_manifest_without_ids_takes_them_from_its_paths(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path\nsub/a.wav\n")
    assert next(iter(collect([path]))).utterance_id == "a"
    assert next(iter(collect([path], ids="path"))).utterance_id == "sub/a.wav"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tabs.tsv", b"path\tlabel\na,b.wav\tspoof\n"),
        ("TABS.TSV", b"path\tlabel\na,b.wav\tspoof\n"),
        ("quotes.csv", b'path,label\n"a,b.wav",spoof\n'),
        ("windows.csv", b'\xef\xbb\xbfpath,label\r\n"a,b.wav",spoof\r\n'),
        ("spaces.csv", b'\n path , Label\n\n"a,b.wav",  spoof \n , \n\n'),
        ("no_last_newline.csv", b'path,label\n"a,b.wav",spoof'),
        ("carriage_returns.csv", b'path,label\r"a,b.wav",spoof\r'),
    ],
)
def test_variants_that_programs_write_are_read(tmp_path: Path, name: str, text: bytes) -> None:
    assert list(collect([manifest(tmp_path, text, name)])) == [Trial("a,b", tmp_path / "a,b.wav", "spoof")]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *((text, "bonafide") for text in ("bonafide", "Bonafide", "BONA FIDE", "bona-fide", "bona_fide")),
        *((text, "spoof") for text in ("spoof", "Spoof", "SPOOF")),
        ("", None),
    ],
)
def test_labels_are_read_in_their_usual_spellings(tmp_path: Path, text: str, label: str | None) -> None:
    assert next(iter(collect([manifest(tmp_path, f"path,label\na.wav,{text}\n")]))).label == label


@pytest.mark.parametrize("text", ["0", "1", "target", "maybe"])
def test_other_labels_are_not_guessed(tmp_path: Path, text: str) -> None:
    message = refusal(manifest(tmp_path, f"path,label\na.wav,spoof\nb.wav,{text}\n"))
    assert message.endswith(f"trials.csv, line 3: label '{text}' is neither `bonafide` nor `spoof`")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", ": empty; the first line names the columns"),
        (b"\xef\xbb\xbf\r\n\r\n", ": empty; the first line names the columns"),
        (b"path,label\n", ": no trials in it"),
        (b"file,label\na.wav,spoof\n", ", line 1: no column `path`; it has file, label"),
        (b"a.wav,spoof\nb.wav,spoof\n", ", line 1: no column `path`"),
        (b"path,Path\na.wav,b.wav\n", ", line 1: several columns called 'path'"),
        (b"path,label\na.wav,spoof\nb.wav\n", ", line 3: 1 cell where the header has 2"),
        (b"path,label\n\na,b.wav,spoof\n", ", line 3: 3 cells where the header has 2"),
        (b"path,label\n,spoof\n", ", line 2: no path"),
        (b"path,utterance_id\na.wav,\n", ", line 2: no utterance_id"),
        (b'path,label\n"a.wav,spoof\n', ", line 2: unexpected end of data"),
        (b"path\na.wav\n\xe9.wav\n", ", line 3: not UTF-8 text"),
        ("path\na.wav\n".encode("utf-16"), ", line 1: UTF-16 text; save it as UTF-8"),
        (b"path,label\na\0.wav,spoof\n", ", line 2: NUL bytes"),
        pytest.param(b"path,label\n\n" + b"a" * 200_000 + b",spoof\n", ", line 3: field larger than", id="long cell"),
        pytest.param(b"a" * 200_000 + b",label\na.wav,spoof\n", ", line 1: field larger than", id="long first cell"),
    ],
)
def test_a_broken_manifest_names_the_line(tmp_path: Path, text: bytes, complaint: str) -> None:
    path = manifest(tmp_path, text)
    assert refusal(path).startswith(f"{path}{complaint}")


def test_a_manifest_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = manifest(tmp_path, "path\na.wav\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(path) == f"{path}: cannot be read: Permission denied"


@pytest.mark.parametrize("name", ["one.csv", "one.tsv"])
def test_a_column_of_paths_alone_may_have_spaces_in_its_paths(tmp_path: Path, name: str) -> None:
    assert [trial.path for trial in collect([manifest(tmp_path, "path\na b.wav\n", name)])] == [tmp_path / "a b.wav"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_jsonl_and_parquet_give_the_same_trials_as_csv(tmp_path: Path, suffix: str) -> None:
    trials = collect([write_rows(tmp_path / f"m{suffix}", ROWS)])
    assert summaries(trials) == [
        ("A", str(tmp_path / "a.flac"), "spoof"),
        ("b", "/data/b.flac", "bonafide"),
        ("C", "s3://bucket/c.flac", None),
    ]
    (tmp_path / "m.csv").write_text(
        "utterance_id,label,path\nA,spoof,a.flac\nb,bonafide,/data/b.flac\nC,,s3://bucket/c.flac\n"
    )
    assert collect([tmp_path / "m.csv"]).digest == trials.digest


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"path": 3}], "path is 3, which is not text"),
        ([{"path": ""}], "no path"),
        ([{"path": "a.wav", "utterance_id": ""}], "no utterance_id"),
        ([{"path": "a.wav", "label": "maybe"}], "maybe"),
        ([{"path": "a.wav", "utterance_id": "A"}, {"path": "b.wav", "utterance_id": "A"}], "shared by several"),
    ],
)
def test_rows_without_a_valid_trial_are_refused(
    tmp_path: Path, suffix: str, rows: list[dict[str, object]], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        collect([write_rows(tmp_path / f"m{suffix}", rows)])


def test_a_parquet_manifest_needs_a_path_column(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column `path`; it has file"):
        collect([write_rows(tmp_path / "m.parquet", [{"file": "a.wav"}])])


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_a_csv_may_have_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    rows = [["path", "label", "remark"], ["a.wav", "spoof", "one, two"], ["b;c.wav", "bonafide", "x|y"]]
    file = tmp_path / "m.csv"
    with file.open("w", newline="", encoding="utf-8-sig") as text:
        text.write("\n")
        csv.writer(text, delimiter=delimiter).writerows(rows)
    assert summaries(collect([file])) == [
        ("a", f"{tmp_path}/a.wav", "spoof"),
        ("b;c", f"{tmp_path}/b;c.wav", "bonafide"),
    ]
    file.write_text(delimiter.join(["path", "label"]) + f"\na.wav{delimiter}spoof{delimiter}x\n")
    with pytest.raises(InputError, match="line 2: 3 cells where the header has 2"):
        collect([file])


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_an_endless_line_of_a_manifest_is_refused(endless: str, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}, line 1: longer than 16,777,216"):
        collect([f"{endless}/{name}"])


def test_a_nul_in_a_path_is_an_error_of_its_trial(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "a\\u0000b.wav", "utterance_id": "x"}\n')
    (trial,) = collect([tmp_path / "m.jsonl"])
    assert "null" in str(decoding_error(trial))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 5000, "not valid JSON"),
        ("1e999999", None),
        ("NaN", None),
    ],
)
def test_json_beyond_the_limits_of_the_parser(tmp_path: Path, value: str, complaint: str | None) -> None:
    text = '{"path": "a.wav", "x": ' + value + "}"
    (tmp_path / "m.jsonl").write_text(text)
    write_tar(tmp_path / "s.tar", {"1.wav": b"x", "1.json": text.encode()})
    for given in (tmp_path / "m.jsonl", tmp_path / "s.tar"):
        if complaint is None:
            assert len(collect([given])) == 1
        else:
            with pytest.raises(InputError, match=complaint):
                collect([given])


def test_a_list_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Standard:
        buffer = io.BytesIO(b"a/1.wav\n\n  2.flac\r\ns3://bucket/3.wav\n")

    monkeypatch.setattr(sys, "stdin", Standard)
    trials = collect(["-"])
    expected = [("1", "a/1.wav", None), ("2", "2.flac", None), ("3", "s3://bucket/3.wav", None)]
    assert summaries(trials) == expected
    # The trials can be read again, although standard input cannot.
    assert summaries(trials) == expected
    monkeypatch.setattr(Standard, "buffer", io.BytesIO(b"\n"))
    with pytest.raises(InputError, match="standard input: no line in it"):
        collect(["-"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\xef\xbb\xbfa.wav\r\nb.wav\r\n", ["a.wav", "b.wav"]),
        (b" spaced.wav\n  b.wav  \n\t\n", [" spaced.wav", "b.wav"]),
        (b"\xff.wav", ["\udcff.wav"]),
        (b"a.wav\0b.wav\0", "line 1: holds a NUL"),
        ("a.wav\n".encode("utf-16"), "in UTF-16"),
        (b"", "no line in it"),
    ],
)
def test_variants_of_lists_that_programs_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, expected: list[str] | str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / " spaced.wav").touch()

    class Standard:
        buffer = io.BytesIO(text)

    monkeypatch.setattr(sys, "stdin", Standard)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            collect(["-"])
    else:
        assert [str(trial.path) for trial in collect(["-"])] == expected
