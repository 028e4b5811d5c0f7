"""Scores of speaker verification in the formats of the three challenges, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectra_jax.data.asv_scores import read_asv_scores
from spectra_jax.errors import InputError

SCORES_2021 = "LA_1 LA_E_1 3.5\nLA_1 LA_E_2 -1\nLA_2 LA_E_2 0.25\n"
KEY_2021 = (
    "LA_2 LA_E_2 alaw ita_tx A07 spoof notrim eval\n"
    "LA_1 LA_E_1 alaw ita_tx bonafide target notrim eval\n"
    "LA_1 LA_E_2 alaw ita_tx bonafide nontarget notrim progress\n"
)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_2019(tmp_path: Path) -> None:
    found = read_asv_scores(written(tmp_path / "s.txt", "bonafide target 2.5\nbonafide nontarget -1\nA07 spoof 1e-2\n"))
    assert found.keys.tolist() == ["target", "nontarget", "spoof"] and found.scores.tolist() == [2.5, -1, 0.01]
    assert found.sasv_scores is None and found.name == "s.txt"


def test_2021_by_speaker_and_utterance(tmp_path: Path) -> None:
    scores, key = written(tmp_path / "s.txt", SCORES_2021), written(tmp_path / "k.txt", KEY_2021)
    found = read_asv_scores(scores, key)
    assert dict(zip(found.keys, found.scores, strict=True)) == {"target": 3.5, "nontarget": -1, "spoof": 0.25}
    found = read_asv_scores(scores, key, subset="eval")
    assert dict(zip(found.keys, found.scores, strict=True)) == {"target": 3.5, "spoof": 0.25}


def test_asvspoof5(tmp_path: Path) -> None:
    header = "spk\tfilename\tcm-score\tasv-score\tsasv-score\n"
    scores = written(tmp_path / "s.tsv", header + "E_1\tE_01\t0.5\t1\t2\nE_1\tE_02\t0.5\t3\t4\n")
    key = written(
        tmp_path / "k.tsv", "spk\tfilename\tcm-label\tasv-label\nE_1\tE_01\tspoof\tspoof\nE_1\tE_02\tbonafide\ttarget\n"
    )
    found = read_asv_scores(scores, key)
    assert found.keys.tolist() == ["spoof", "target"] and found.scores.tolist() == [1, 3]
    assert found.sasv_scores is not None and found.sasv_scores.tolist() == [2, 4]


def test_refuses(tmp_path: Path) -> None:
    scores, key = written(tmp_path / "s.txt", SCORES_2021), written(tmp_path / "k.txt", KEY_2021)
    with pytest.raises(InputError, match=r"no field that is target, nontarget, spoof in every line.*--asv-key"):
        read_asv_scores(scores)
    with pytest.raises(InputError, match="no trial of the subset 'hidden' in its last field, which has eval, progress"):
        read_asv_scores(scores, key, subset="hidden")
    with pytest.raises(InputError, match=r"1 trial without a score in .*:\n  LA_2 LA_E_2"):
        read_asv_scores(written(tmp_path / "less.txt", SCORES_2021[: SCORES_2021.index("LA_2")]), key)
    with pytest.raises(InputError, match="1 score without a numeric value:\n  line 3: 'x'"):
        read_asv_scores(written(tmp_path / "x.txt", SCORES_2021.replace("0.25", "x")), key)
    with pytest.raises(InputError, match="1 trial occurring more than once"):
        read_asv_scores(written(tmp_path / "twice.txt", SCORES_2021 + SCORES_2021[:17]), key)
    header = "spk\tfilename\tsasv-score\n"
    with pytest.raises(InputError, match=r"no column asv-score, which .*; its columns are spk, filename, sasv_score"):
        read_asv_scores(written(tmp_path / "sasv.tsv", header + SCORES_2021.replace(" ", "\t")), key)
