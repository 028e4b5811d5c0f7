"""The balance of what is drawn: groups, their epochs, and what a manifest has to state."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from spectra_jax.errors import ConfigError, InputError
from spectra_jax.training import Batches, Clip, Run, TrainingConfig, read_manifest
from spectra_jax.training.data import class_weights
from spectra_jax.training.sampling import Group, group_clips
from tests.training.runs import config, rows_of, write_corpus, write_manifest


def clip(name: str, label: Literal["bonafide", "spoof"], dataset: str | None = None, attack: str | None = None) -> Clip:
    return Clip(name, f"{name}.wav", label, dataset=dataset, attack=attack)


CLIPS = [
    *(clip(f"a_bonafide_{i}", "bonafide", "a") for i in range(4)),
    *(clip(f"b_bonafide_{i}", "bonafide", "b") for i in range(10)),
    *(clip(f"a_tts_{i}", "spoof", "a", "tts") for i in range(12)),
    *(clip(f"a_vc_{i}", "spoof", "a", "vc") for i in range(3)),
    *(clip(f"b_tts_{i}", "spoof", "b", "tts") for i in range(5)),
]


def drawn(root: Group, number: int, seed: int = 0) -> list[Clip]:
    found = (root.find(index, seed) for index in range(number))
    return [group.clip(count, seed) for group, count in found]


def test_groups_of_each_level_are_drawn_equally_often() -> None:
    clips = drawn(group_clips(CLIPS, ("label", "dataset", "attack")), 480)
    assert Counter(each.label for each in clips) == {"bonafide": 240, "spoof": 240}
    spoofs = Counter((each.dataset, each.attack) for each in clips if not each.bonafide)
    assert spoofs == {("a", "tts"): 60, ("a", "vc"): 60, ("b", "tts"): 120}
    assert Counter(each.dataset for each in clips if each.bonafide) == {"a": 120, "b": 120}


def test_a_batch_has_each_label_equally_often() -> None:
    clips = drawn(group_clips(CLIPS, ("label",)), 96)
    for start in range(0, 96, 8):
        assert sum(each.bonafide for each in clips[start : start + 8]) == 4


def test_every_clip_of_a_group_is_drawn_before_any_again() -> None:
    clips = drawn(group_clips(CLIPS, ("label", "dataset", "attack")), 480)
    for group in group_clips(CLIPS, ("label", "dataset", "attack")).leaves():
        names = [each.utterance_id for each in clips if each in group.clips]
        size, members = len(group.clips), {each.utterance_id for each in group.clips}
        epochs = [names[start : start + size] for start in range(0, len(names) - size + 1, size)]
        assert len(epochs) > 1 and all(set(epoch) == members for epoch in epochs)
        assert size < 4 or epochs[0] != epochs[1]


def test_bonafide_clips_are_one_group_among_the_attacks() -> None:
    clips = drawn(group_clips(CLIPS, ("attack",)), 90)
    assert Counter("bonafide" if each.bonafide else each.attack for each in clips) == {
        "bonafide": 30,
        "tts": 30,
        "vc": 30,
    }
    # A word in the column does not divide them.
    named = [clip("x", "bonafide", attack="bona fide"), clip("y", "bonafide"), clip("z", "spoof", attack="tts")]
    assert [group.name for group in group_clips(named, ("attack",)).leaves()] == ["attack bonafide", "attack tts"]


def test_draws_depend_on_the_seed_and_the_number_only() -> None:
    one, other = (group_clips(CLIPS, ("label", "attack")) for _ in range(2))
    assert drawn(one, 100)[60:] == [drawn(other, 100)[index] for index in range(60, 100)]
    assert drawn(one, 100) != drawn(one, 100, seed=1)


def test_without_balance_the_order_is_that_of_earlier_versions(manifest: Path) -> None:
    """Each epoch is the permutation of all clips by the generator of (seed, epoch)."""
    settings = config(batch_size=8, seed=3)
    clips = read_manifest(manifest)["train"]
    batches = Batches(clips, settings.model, settings.training)
    names = [name for step in range(4) for name in batches.batch(step).utterance_ids]
    wanted = [
        clips[index].utterance_id for epoch in (0, 1) for index in np.random.default_rng([3, epoch]).permutation(16)
    ]
    assert names == wanted and [group.name for group in batches.groups] == [""]


def test_balanced_class_weights_are_those_of_what_is_drawn() -> None:
    assert class_weights(CLIPS, TrainingConfig(balance=("label", "attack"))) == pytest.approx((1, 1))
    # Two of three draws are spoofs.
    assert class_weights(CLIPS, TrainingConfig(balance=("attack",))) == pytest.approx((0.75, 1.5))
    assert class_weights(CLIPS, TrainingConfig()) == (34 / 40, 34 / 28)
    assert class_weights(CLIPS, TrainingConfig(balance=("attack",), class_weights=(1, 2))) == (1, 2)


def test_missing_values_are_errors_with_examples() -> None:
    clips = [*CLIPS, clip("nameless", "spoof", "a")]
    with pytest.raises(InputError, match=r"names `attack`, which 1 clip of 35 to train on lacks") as caught:
        group_clips(clips, ("label", "attack"))
    assert "nameless" in str(caught.value)
    with pytest.raises(InputError, match=r"names `dataset`, which 2 clips of 36 to train on lack "):
        group_clips([*CLIPS, clip("x", "bonafide"), clip("y", "spoof", attack="tts")], ("dataset",))


def test_wrong_balances_are_refused() -> None:
    for wrong in ([], ["label", "label"], ["speaker"], "label", [1]):
        with pytest.raises(ConfigError, match=r"training\.balance = "):
            config(balance=wrong)
    with pytest.raises(ConfigError, match="without `label`"):
        config(balance=["label"], pairs=True)
    assert config(balance=["attack", "dataset"], pairs=True).training.balance == ("attack", "dataset")


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest with datasets and attacks: 8 bona fide clips, and 2 and 6 spoofs of two attacks."""
    manifest = write_corpus(tmp_path_factory.mktemp("grouped"))
    rows = rows_of(manifest)
    for index, row in enumerate(rows):
        spoof = row["label"] == "spoof"
        row["attack"] = ("tts" if row["path"].endswith(("_0.wav", "_1.wav")) else "vc") if spoof else "-"
        row["dataset"] = "even" if index % 2 else "odd"
    return write_manifest(manifest.parent / "grouped.csv", rows)


def test_batches_of_a_manifest_are_balanced(grouped: Path) -> None:
    settings = config(balance=["label", "attack"], steps=12)
    clips = read_manifest(grouped)["train"]
    assert {each.attack for each in clips} == {None, "tts", "vc"}
    assert {each.dataset for each in clips} == {"odd", "even"}
    batches = Batches(clips, settings.model, settings.training)
    sizes = {group.name: len(group.clips) for group in batches.groups}
    assert sizes == {
        "label bonafide, attack bonafide": 8,
        "label spoof, attack tts": 2,
        "label spoof, attack vc": 6,
    }
    by_name = {each.utterance_id: each for each in clips}
    with ThreadPoolExecutor(2) as pool:
        from_the_start = [batch.utterance_ids for batch in batches.from_step(0, pool)]
        resumed = [batch.utterance_ids for batch in islice(batches.from_step(7, pool), 5)]
    assert resumed == from_the_start[7:]
    for names in from_the_start:
        kinds = Counter(by_name[name].attack for name in names)
        assert kinds[None] == 4 and kinds["tts"] == 2 and kinds["vc"] == 2


def test_pairs_are_balanced_by_attack(grouped: Path) -> None:
    settings = config(balance=["attack"], pairs=True)
    clips = {each.utterance_id: each for each in read_manifest(grouped)["train"]}
    batches = Batches(list(clips.values()), settings.model, settings.training)
    for step in range(4):
        batch = batches.batch(step)
        assert list(batch.labels) == [0, 1] * 4
        assert Counter(clips[name].attack for name in batch.utterance_ids[::2]) == {"tts": 2, "vc": 2}


def test_a_clip_that_cannot_be_decoded_is_replaced_by_one_of_its_group(grouped: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    broken = {row["utterance_id"] if "utterance_id" in row else Path(row["path"]).stem: row for row in rows_of(grouped)}
    broken["train_spoof_0"]["path"] = str(tmp_path / "broken.wav")
    rows = [{"utterance_id": name, **row} for name, row in broken.items()]
    settings = config(balance=["label", "attack"], batch_size=16)
    clips = read_manifest(write_manifest(tmp_path / "one.csv", rows))["train"]
    batch = Batches(clips, settings.model, settings.training).batch(0)
    assert batch.skipped and batch.utterance_ids.count("train_spoof_1") == 4 and sum(batch.labels) == 8
    broken["train_spoof_1"]["path"] = str(tmp_path / "broken.wav")
    rows = [{"utterance_id": name, **row} for name, row in broken.items()]
    clips = read_manifest(write_manifest(tmp_path / "both.csv", rows))["train"]
    with pytest.raises(InputError, match="no clip of label spoof, attack tts in the training split can be decoded"):
        Batches(clips, settings.model, settings.training).batch(0)


def test_a_run_reports_its_groups_and_refuses_what_it_cannot_balance(
    grouped: Path, manifest: Path, tmp_path: Path
) -> None:
    assert Run(grouped, tmp_path / "run", config(balance=["label", "attack"])).group_sizes == {
        "label bonafide, attack bonafide": 8,
        "label spoof, attack tts": 2,
        "label spoof, attack vc": 6,
    }
    assert Run(manifest, tmp_path / "plain", config()).group_sizes == {}
    with pytest.raises(InputError, match="names `dataset`, which 16 clips of 16"):
        Run(manifest, tmp_path / "other", config(balance=["dataset"]))
    assert not (tmp_path / "other").exists()
