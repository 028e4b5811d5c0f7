"""Labels, from every kind of file that has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectra_jax.data.labels import labels_of, read_labels, subset_counts, take_subset
from spectra_jax.data.score_files import Scores, read_scores
from spectra_jax.errors import InputError

INPUTS = Path(__file__).parents[1] / "inputs" / "tables"

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
    "2021_PA.txt": (
        "PA_0010 PA_E_1000001 R2 M2 d4 r1 m1 s4 c4 spoof notrim eval\n"
        "PA_0011 PA_E_1000002 R1 M1 d2 - - - - bonafide notrim progress\n"
    ),
    "2015.trn": "T1 T1_1000001 S1 spoof\nT2 T2_1000002 human human\n",
    "2015_label_first.trn": "T1 T1_1000001 spoof S1\nT2 T2_1000002 human -\n",
    "5_phase1.txt": "T_4850 T_0000000000 F - A05 spoof\nT_4851 T_0000000001 M - bonafide bonafide\n",
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
    if "PA" not in name:
        assert labels.columns["attack"][0] in ("A11", "A07", "A14", "A27", "S1", "A05")


# Lists that name files: the ids are their stems, as `score` names trials.
LISTS = {
    "2017.trl.txt": "T_1000002.wav spoof M0002 S02 E01 P01 R01\nT_1000001.wav genuine M0001 S01 - - -\n",
    "add2022.txt": "ADD_T_00000001.wav fake\nADD_T_00000000.wav genuine\n",
    "add_tabs.txt": "ADD_T_00000001.wav\tfake\nADD_T_00000000.wav\tgenuine\n",
    "no_header.csv": "clips/a.1.wav,spoof\nclips/b.wav,bona-fide\n",
    "in_the_wild.csv": "file,speaker,label\n0.wav,Alec Guinness,spoof\n1.wav,Alec Guinness,bona-fide\n",
    "semicolons.csv": '"file_name";"class"\r\na.wav;FAKE\r\nb.wav;"Real"\r\n',
    "header.txt": "filename label\na.wav deepfake\nb.wav human\n",
    "header_tabs.txt": "utt_id\tspeaker\tkey\na\tAlec Guinness\tspoofed\nb\tAlec Guinness\tbona fide\n",
    "header_commas.txt": "id,label\na,spoof\nb,bonafide\n",
    "bom.txt": "\ufeffa spoof\nb bonafide\n",
    "spaces.csv": "LA_0039 LA_E_2834763 - A11 spoof\nLA_0014 LA_E_8877452 - - bonafide\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_reads_lists_and_other_names_of_columns(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LISTS[name])
    labels = read_labels(tmp_path / name)
    assert labels.bonafide.tolist() == [False, True]
    ids = {
        "2017.trl.txt": ["T_1000002", "T_1000001"],
        "no_header.csv": ["a.1", "b"],
        "in_the_wild.csv": ["0", "1"],
        "spaces.csv": ["LA_E_2834763", "LA_E_8877452"],
    }
    add = ["ADD_T_00000001", "ADD_T_00000000"]
    assert labels.utterance_ids.tolist() == ids.get(name, add if name.startswith("add") else ["a", "b"])
    if "Alec" in LISTS[name]:
        assert labels.columns["speaker"].tolist() == ["Alec Guinness"] * 2


def test_mlaad_is_all_spoofed(tmp_path: Path) -> None:
    (tmp_path / "meta.csv").write_text(
        "path|original_file|language|is_original_language|duration|training_data|model_name|architecture|transcript\n"
        './fake/de/vits/a.wav|x.wav|de|True|6.1|thorsten|tts_models/de/thorsten/vits|vits|"Es war, so; ""hieß"" es"\n'
    )
    labels = read_labels(tmp_path / "meta.csv")
    assert labels.bonafide.tolist() == [False] and labels.utterance_ids.tolist() == ["a"]
    assert labels.columns["model_name"].tolist() == ["tts_models/de/thorsten/vits"]
    assert labels.columns["transcript"].tolist() == ['Es war, so; "hieß" es']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,key,id\nspoof,target,a\n", "the columns `class` and `key` could both be the label; name the right one"),
        ("id,file,label\n1,a.wav,spoof\n", "the columns `id` and `file` could both name the trials"),
        ("file,filename,label\na,a,spoof\n", "the columns `file` and `filename` could both be the path"),
        ("file,label\nx/a.wav,spoof\ny/a.wav,bonafide\n", "--match path takes whole paths instead"),
        ("Label,label,id\nspoof,spoof,a\n", "several columns called 'label'"),
        ("id,label\na,0\n", "Numbers are not guessed"),
        ("id,label\na,True\n", "1 label neither"),
        ("id,label\n", "no trials in it, only a header"),
        ("\n \n", "no trials in it"),
        ('id,label\n"a,spoof\n', "line 2: unexpected end of data"),
    ],
)
def test_ambiguous_and_broken_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / "m.csv")
    assert message in str(caught.value)


def test_the_documented_name_of_a_column_comes_before_others(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("utterance_id,path,file,label,class\na,x.wav,y.wav,spoof,3\n")
    labels = read_labels(tmp_path / "m.csv")
    assert labels.utterance_ids.tolist() == ["a"] and labels.bonafide.tolist() == [False]
    assert set(labels.columns) == {"path", "file", "class"}


def test_lines_that_two_protocols_fit_differently_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("T1 a human spoof\nT1 b spoof human\n")
    with pytest.raises(InputError, match="disagree on the labels"):
        read_labels(tmp_path / "p.txt")


def test_ids_as_whole_paths_and_without_folder_and_extension(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,label\n./x/a.wav,spoof\ny//a.wav,bonafide\n")
    assert read_labels(tmp_path / "m.csv", match="path").utterance_ids.tolist() == ["x/a.wav", "y/a.wav"]
    (tmp_path / "n.csv").write_text("utterance_id,label\nx/a.wav,spoof\nb.flac,bonafide\nc.0,bonafide\n")
    assert read_labels(tmp_path / "n.csv", match="stem").utterance_ids.tolist() == ["a", "b", "c.0"]
    assert read_labels(tmp_path / "n.csv").utterance_ids.tolist() == ["x/a.wav", "b.flac", "c.0"]


def test_one_subset_of_a_key() -> None:
    labels = read_labels(INPUTS / "p21la.txt")
    assert subset_counts(labels.columns) == {"eval": 12, "hidden_track": 12, "progress": 16}
    scores = read_scores(INPUTS / "s.txt")
    (kept,), taken = take_subset([scores], labels, "eval")
    assert len(taken.utterance_ids) == len(kept) == 12 and set(taken.columns["subset"]) == {"eval"}
    assert set(kept.utterance_ids) == set(taken.utterance_ids)
    with pytest.raises(InputError, match=r"no subset 'evl'; it has eval \(12 trials\), hidden_track"):
        take_subset([scores], labels, "evl")
    with pytest.raises(InputError, match="no column `subset`"):
        take_subset([scores], read_labels(INPUTS / "p5_tabs.tsv"), "eval")


@pytest.mark.parametrize("name", ["p5_phase1.txt", "p5_tabs.tsv", "p21la.txt"])
def test_reads_the_tables_of_tests(name: str) -> None:
    labels = read_labels(INPUTS / name)
    assert labels.bonafide.sum() == 10 and len(labels.bonafide) == 40
    assert labels.utterance_ids[0] == "LA_E_1000000" and labels.bonafide[0] and not labels.bonafide[1]


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
        ("p.txt", "\n", "no trials in it"),
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
