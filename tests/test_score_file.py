"""Reading score files: everything that `score` writes, what others publish, and what is wrong with some."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.results import Result, write
from spectra_jax.score_file import read_scores
from spectra_jax.trials import InputError, Trial

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
        ("s.xlsx", "", "no known kind of score file"),
        ("s.parquet", "PAR1", "no readable parquet file"),
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


def test_rows_of_different_keys(tmp_path: Path) -> None:
    rows = [{"utterance_id": "a", "score": 1}, {"score": 2, "utterance_id": "b", "speaker": "s"}]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_scores(tmp_path / "s.jsonl").columns["speaker"].tolist() == ["", "s"]
