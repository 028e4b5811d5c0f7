"""Labels, from every kind of file that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectra_jax.labels import labels_of, read_labels
from spectra_jax.score_file import Scores
from spectra_jax.trials import InputError

# A line or two of each, in the fields that the corpora's README files give.
PROTOCOLS = {
    "2019.txt": "LA_0039 LA_E_2834763 - A11 spoof\nLA_0014 LA_E_8877452 - - bonafide\n",
    "2021_LA.txt": (
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval\n"
        "LA_0020 LA_E_6866159 gsm sin_pstn bonafide bonafide notrim hidden\n"
    ),
    "2021_DF.txt": (
        "LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -\n"
        "TEF2 DF_E_2000013 low_m4a vcc2020 - bonafide notrim eval bonafide Task1 team20 FF E\n"
    ),
    "5.tsv": "E_0023 E_0004 F C05 2 E_0091 AC3 A27 spoof -\nE_0024 E_0005 M - - - - bonafide bonafide -\n",
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_reads_protocols(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(PROTOCOLS[name])
    labels = read_labels(tmp_path / name)
    assert labels.bonafide.tolist() == [False, True]
    fields = PROTOCOLS[name].split("\n")[0].split()
    assert labels.utterance_ids[0] == fields[1]
    assert labels.columns["speaker"][0] == fields[0]
    assert labels.columns["attack"][0] in ("A11", "A07", "A14", "A27")


def test_reads_manifests(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,speaker\nx/a.wav,bona fide,s1\nx/b.wav,Spoof,s2\n")
    labels = read_labels(tmp_path / "m.csv")
    assert list(labels.utterance_ids) == ["a", "b"] and labels.bonafide.tolist() == [True, False]
    assert labels.columns["speaker"].tolist() == ["s1", "s2"]
    (tmp_path / "m.tsv").write_text("utterance_id\tlabel\na\tspoof\n")
    assert read_labels(tmp_path / "m.tsv").bonafide.tolist() == [False]
    (tmp_path / "m.jsonl").write_text('{"utterance_id": "a", "label": "bonafide"}\n')
    assert read_labels(tmp_path / "m.jsonl").bonafide.tolist() == [True]


def test_reads_the_arenas_parquet(tmp_path: Path) -> None:
    table = pa.table({"utterance_id": ["a", "b"], "label": pa.array([0, 1], pa.int8())})
    pq.write_table(table, tmp_path / "labels.parquet")
    assert read_labels(tmp_path / "labels.parquet").bonafide.tolist() == [True, False]
    pq.write_table(pa.table({"utterance_id": ["a"], "label": pa.array([2], pa.int8())}), tmp_path / "labels.parquet")
    with pytest.raises(InputError, match="1 label neither 0"):
        read_labels(tmp_path / "labels.parquet")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "utterance_id,label\na,1\nb,0\n", "2 labels neither `bonafide` nor `spoof`, nor another word"),
        ("m.csv", "utterance_id,label\na,spoof\na,bonafide\n", "occurring more than once"),
        ("m.csv", "utterance_id,verdict\na,spoof\n", "no column `label`"),
        ("m.csv", "name,label\na,spoof\n", "no column `utterance_id` or `path`"),
        ("p.txt", "a b c\n", "3 fields, neither a line of a known protocol"),
        ("p.txt", "LA_1 LA_E_1 - - bonafide\nLA_1 LA_E_2 -\n", "1 line without the 5 fields"),
        ("p.txt", "LA_1 LA_E_1 - - bonafide\nLA_1 LA_E_2 - - maybe\n", "1 label neither"),
        ("p.txt", "\n", "empty"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / name)
    assert message in str(caught.value) and name in str(caught.value)


def test_a_score_files_own_labels() -> None:
    ids, values = np.array(["a", "b"], object), np.array([1.0, 2.0])
    scores = Scores(
        "s", ids, values, {"label": np.array(["bonafide", "spoof"], object), "attack": np.array(["-", "A"])}
    )
    labels = labels_of(scores)
    assert labels.bonafide.tolist() == [True, False] and set(labels.columns) == {"attack"}
    with pytest.raises(InputError, match="no labels in it"):
        labels_of(Scores("s", ids, values))
    with pytest.raises(InputError, match="1 label neither"):
        labels_of(Scores("s", ids, values, {"label": np.array(["bonafide", ""], object)}))
