"""Reading score files: everything that `score` writes, what others publish, and what is wrong with some."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.data.labels import labels_of, read_labels
from spectra_jax.data.score_files import read_scores
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.results import Result, write

INPUTS = Path(__file__).parents[1] / "inputs" / "tables"
RESULTS = [
    Result(Trial("a", Path("a.wav"), "bonafide"), (-1.25, 1 / 3), 2.5, rank_gap=3e-6, rank_gap_pool="branch2.pool_t"),
    Result(Trial("b", Path("b.wav"), "spoof"), None, error="b.wav: empty"),
    Result(Trial("c", Path("c.wav"), "spoof"), (1.0, -2e-7), 1.0, ("silent",)),
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_reads_what_score_writes(tmp_path: Path, suffix: str) -> None:
    write(RESULTS, tmp_path / f"scores{suffix}")
    scores = read_scores(tmp_path / f"scores{suffix}")
    assert list(scores.utterance_ids) == ["a", "c"]
    if suffix == ".txt":
        assert scores.scores.tolist() == [0.333333, 0.0]
        return
    assert scores.scores.tolist() == [1 / 3, -2e-7], "to the bit"
    assert scores.skipped == {"b": "b.wav: empty"}
    assert scores.columns["label"].tolist() == ["bonafide", "spoof"]
    gaps = scores.rank_gaps
    assert gaps is not None and gaps[0] == 3e-6 and math.isnan(gaps[1])
    assert scores.columns["rank_gap_pool"].tolist() == ["branch2.pool_t", ""]


def test_reads_parquet_and_leaves_nested_columns(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {"utterance_id": ["x", "y"], "score": [0.5, None], "audio": [{"bytes": b"1"}] * 2, "Attack": ["A1", "-"]}
    pq.write_table(pa.table(columns), tmp_path / "scores.parquet")
    scores = read_scores(tmp_path / "scores.parquet", name="system")
    assert (scores.name, list(scores.utterance_ids), scores.skipped) == ("system", ["x"], {"y": "no score"})
    assert set(scores.columns) == {"attack"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "a 0.5\nb -1e-3\n"),
        ("header.txt", "utterance_id score\na 0.5\nb -1e-3\n"),
        ("asvspoof5.txt", "filename\tcm-score\na\t0.5\nb\t-1e-3\n"),
        ("asvspoof5.tsv", "filename\tcm-score\na.flac\t0.5\nb.flac\t-1e-3\n"),
        ("tabs.txt", "a\t0.5\r\nb\t-1e-3\r\n"),
        ("commas.txt", "a,0.5\nb,-1e-3\n"),
        ("comma_and_space.txt", "id, score\na, 0.5\nb, -1e-3\n"),
        ("lined_up.txt", "a   0.5\nb   -1e-3\n"),
        ("no_header.csv", "a,0.5\nb,-1e-3\n"),
        ("semicolons.csv", "utt;score\na;0.5\nb;-1e-3\n"),
        ("asvspoof2019.txt", "a A07 spoof 0.5\nb - bonafide -1e-3\n"),
        ("bom.txt", "\ufeffa 0.5\nb -1e-3\n"),
        ("rows.jsonl", '\ufeff{"file": "x/a.wav", "Score": 0.5}\n\n{"file": "x/b.wav", "score": "-1e-3"}\n'),
    ],
)
def test_reads_what_others_publish(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    scores = read_scores(tmp_path / name)
    assert scores.utterance_ids.tolist() == ["a", "b"] and scores.scores.tolist() == [0.5, -1e-3]
    if name == "asvspoof2019.txt":
        assert labels_of(scores).bonafide.tolist() == [False, True]
        assert scores.columns["attack"].tolist() == ["A07", "-"]


@pytest.mark.parametrize("first", ["file", "key", "score", "a,", "id,a", "a;b|c", '"a', "0.5", "spoof"])
def test_ids_that_look_like_something_else(tmp_path: Path, first: str) -> None:
    rows = [Result(Trial(name, Path("a.wav"), "spoof"), (0.0, 1.0), 1.0) for name in (first, "b")]
    for suffix in (".txt", ".csv", ".jsonl"):
        write(rows, tmp_path / f"s{suffix}")
        assert read_scores(tmp_path / f"s{suffix}").utterance_ids.tolist() == [first, "b"]
    (tmp_path / "labels.txt").write_text(f"{first} spoof\nb bonafide\n")
    assert read_labels(tmp_path / "labels.txt").utterance_ids.tolist() == [first, "b"]


def test_ids_without_folder_and_extension() -> None:
    scores = read_scores(INPUTS / "s_flac.txt", match="stem")
    assert scores.utterance_ids.tolist() == read_scores(INPUTS / "s.txt").utterance_ids.tolist()


def test_a_column_of_numbers_is_numbers(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("utterance_id,score,snr,note\na,1,20,\nb,2,,\nc,3,5e0,\n")
    columns = read_scores(tmp_path / "s.csv").columns
    np.testing.assert_array_equal(columns["snr"], [20, math.nan, 5])
    assert columns["note"].tolist() == ["", "", ""]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.txt", "", "no trials"),
        ("s.txt", "a 0.1\na 0.2\nb 1\n", "1 utterance id occurring more than once:\n  a: 2 times"),
        ("s.txt", "a 0.1\nb\n", "line 2: 1 field"),
        ("s.txt", "a 0.1 bonafide\n", "line 1: 3 fields"),
        ("s.txt", "a 0.1\nb nan\nc inf\n", "2 scores NaN or infinite:\n  b: nan\n  c: inf"),
        ("s.txt", "a 0.1\nb x\n", "1 score that is not a number:\n  b: 'x'"),
        ("s.csv", "name,score\na,1\n", "no column `utterance_id` or `path`; it has name, score"),
        ("s.csv", "utterance_id,score\na,1,2\n", "line 2: 3 cells where the header has 2"),
        ("s.csv", "utterance_id,score,score\na,1,2\n", "several columns called 'score'"),
        ("s.csv", "utterance_id,score\n,1\n", "1 trial without an utterance_id"),
        ("s.csv", "utterance_id,score\na,\nb,\n", "2 trials and not one score"),
        ("s.csv", "", "no trials"),
        ("s.jsonl", '{"utterance_id": "a", "score": 1}\n{"utter', "line 2: not valid JSON"),
        ("s.jsonl", "[1]\n", "line 1: a JSON object was expected"),
        ("s.jsonl", '{"utterance_id": "a", "score": [1]}\n', "1 score that is not a number"),
        ("s.jsonl", '{"utterance_id": "a", "score": true}\n', "1 score that is not a number:\n  a: True"),
        ("s.jsonl", '{"utterance_id": "a", "score": ' + "1" * 400 + "}\n", "1 score that is not a number"),
        ("s.jsonl", '{"utterance_id": "a", "score": ' + "1" * 9000 + "}\n", "line 1: not valid JSON"),
        ("s.jsonl", '{"utterance_id": "a", "score": NaN}\n', "1 score NaN or infinite"),
        ("s.jsonl", '{"utterance_id": "a", "score": 1, "score": 2}\n', "line 1: several columns called 'score'"),
        ("s.jsonl", "[" * 500_000, "line 1: JSON nested too deeply"),
        ("s.jsonl", '{"a": ' * 100_000, "line 1: JSON nested too deeply"),
        ("s.txt", "a 1_000\nb 2\n", "line 1: 'a 1_000' is neither a trial with its score nor a header"),
        ("s.txt", "a 1\nb 2_000\n", "1 score that is not a number:\n  b: '2_000'"),
        ("s.txt", "a 1\nb \uff10.5\n", "1 score that is not a number"),
        ("s.txt", "utterance_id score\n", "only a header"),
        ("s.txt", "name value\na 1\n", "nor a header with known names (utterance_id: utterance_id, utt_id"),
        ("s.txt", "a A07 spoof 1\nb A07 spoof\n", "line 2: 3 fields, but the first line has 4"),
        ("s.txt", "a\0b 1\n", "line 1: NUL bytes"),
        pytest.param("s.csv", "id,score\na,1\nb," + "x" * (1 << 24), "line 3: longer than 16,777,216 char", id="long"),
        ("s.csv", "utterance_id,score,Score\na,1,2\n", "several columns called 'score'"),
        ("s.csv", "utterance_id,scores,cm-score\na,1,2\n", "`scores` and `cm-score` could both be the score"),
        ("s.xlsx", "", "not a known format of score files"),
        ("s.jsonl", "\n", "no trials in it"),
        ("s.parquet", "PAR1", "not a readable parquet file"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_scores(tmp_path / name)
    assert message in str(caught.value) and name in str(caught.value)


def test_not_there_not_text_and_a_byte_order_mark(tmp_path: Path) -> None:
    for name in ("s.txt", "s.csv", "s.jsonl", "s.parquet"):
        with pytest.raises(InputError, match=r"s[.]"):
            read_scores(tmp_path / name)
    (tmp_path / "s.txt").write_bytes(b"a 1\n\xff\xfe 2\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        read_scores(tmp_path / "s.txt")
    (tmp_path / "s.txt").write_bytes(b"\xef\xbb\xbfa 1\r\nb 2\r\n")
    assert list(read_scores(tmp_path / "s.txt").utterance_ids) == ["a", "b"]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl", ".parquet"])
def test_what_is_not_a_plain_file_of_utf8_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"s{suffix}"
    path.mkdir()
    with pytest.raises(InputError, match="a folder, where a file is expected"):
        read_scores(path)
    path.rmdir()
    os.mkfifo(path)
    # Nobody writes to it: reading it would never end.
    with pytest.raises(InputError, match="not a plain file but a pipe"):
        read_scores(path)
    with pytest.raises(InputError, match="not a plain file but a pipe"):
        read_labels(path)
    path.unlink()
    if suffix == ".parquet":
        return
    for encoding, message in (("utf-16", "UTF-16 text; save it as UTF-8"), ("utf-16-le", "save it as UTF-8")):
        path.write_bytes("a 1\n".encode(encoding))
        with pytest.raises(InputError, match=message):
            read_scores(path)


def test_rows_of_different_keys(tmp_path: Path) -> None:
    rows = [{"utterance_id": "a", "score": 1}, {"score": 2, "utterance_id": "b", "speaker": "s"}]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_scores(tmp_path / "s.jsonl").columns["speaker"].tolist() == ["", "s"]
