"""Score files as systems: names, labels, subsets, attacks, and which of them are evaluated."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.data.labels import Labels
from spectra_jax.errors import InputError
from spectra_jax.reporting.systems import model_digests, model_window_seconds, read_systems
from tests.reporting.conftest import HOSTILE, N

HEADER = "utterance_id,score,label,attack\n"


def test_names_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    for name in ("a/s.csv", "a/s.tsv", "b/s.csv", "b/t.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("utterance_id,score\nx,1\n".replace(",", "\t" if name.endswith("tsv") else ","))

    def names(*files: str) -> list[str]:
        return [system.name for system in read_systems([tmp_path / file for file in files])]

    assert names("a/s.csv", "b/t.csv") == ["s", "t"]
    assert names("a/s.csv", "a/s.tsv") == ["s.csv", "s.tsv"]
    assert names("a/s.csv", "b/s.csv") == [str(tmp_path / "a/s.csv"), str(tmp_path / "b/s.csv")]
    with pytest.raises(InputError, match="1 score file given twice"):
        read_systems([tmp_path / "a/s.csv", tmp_path / "b" / ".." / "a" / "s.csv"])
    with pytest.raises(InputError, match="no score file: give at least one"):
        read_systems([])


def test_labels_and_attacks_are_those_of_the_trials(folder: Path, labels: Labels) -> None:
    system = read_systems([folder / "second.csv"], labels, resamples=0)[0]
    assert system.sha256 == hashlib.sha256((folder / "second.csv").read_bytes()).hexdigest()
    assert system.bonafide is not None and system.bonafide.sum() == N // 4
    assert system.attacks is not None and set(system.attacks) == {"", "A01", "A02", "A<b>3"}
    assert ((system.attacks == "") == system.bonafide).all()
    assert system.evaluation is not None and list(system.evaluation.groups) == ["attack"]


def test_systems_that_cannot_be_evaluated(folder: Path, tmp_path: Path) -> None:
    unlabelled = read_systems([folder / "first.csv"])[0]
    assert unlabelled.evaluation is None and unlabelled.bonafide is None and unlabelled.attacks is None
    (tmp_path / "s.csv").write_text(HEADER + "a,0.5,spoof,A01\nb,1.5,spoof,\n")
    one_class = read_systems([tmp_path / "s.csv"])[0]
    assert one_class.evaluation is None and one_class.bonafide is not None and not one_class.bonafide.any()
    assert one_class.attacks is not None and list(one_class.attacks) == ["A01", ""]


def test_trials_without_a_label(folder: Path, labels: Labels, tmp_path: Path) -> None:
    fewer = Labels("fewer", labels.utterance_ids[1:], labels.bonafide[1:])
    with pytest.raises(InputError, match="1 trial of first without a label in fewer"):
        read_systems([folder / "first.csv"], fewer)
    system = read_systems([folder / "first.csv"], fewer, common=True, resamples=0)[0]
    assert len(system.scores) == N - 1 and HOSTILE not in system.scores.utterance_ids
    (tmp_path / "x.csv").write_text("utterance_id,score\nx,1\n")
    with pytest.raises(InputError, match="x: none of its 1 trial has a label"):
        read_systems([tmp_path / "x.csv"], fewer, common=True)


def test_digests_of_a_model(tmp_path: Path) -> None:
    for name in ("b.safetensors", "a.safetensors", "config.json"):
        (tmp_path / name).write_text(name)
    digests = model_digests(tmp_path)
    assert list(digests) == ["a.safetensors", "b.safetensors"]
    assert digests["a.safetensors"] == hashlib.sha256(b"a.safetensors").hexdigest()
    assert model_digests(tmp_path / "a.safetensors") == {"a.safetensors": digests["a.safetensors"]}
    for wrong in (tmp_path / "none", tmp_path / "none.safetensors"):
        with pytest.raises(InputError, match=r"neither a \.safetensors file nor a folder with one"):
            model_digests(wrong)


def test_the_demo_checkpoint_has_a_digest_and_a_window(tmp_path: Path) -> None:
    assert [len(digest) for digest in model_digests("demo").values()] == [64]
    config = open_checkpoint("demo").config
    assert model_window_seconds("demo") == config.num_samples / config.sample_rate
    (tmp_path / "a.safetensors").write_bytes(b"not weights")
    assert model_window_seconds(tmp_path / "a.safetensors") is None
