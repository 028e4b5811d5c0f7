"""Manifests and batches: every clip once an epoch, pairs, and clips that cannot be decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from spectra_jax.training import Batches, read_manifest
from tests.conftest import spectra
from tests.training.runs import config, rows_of, write_corpus, write_manifest


def test_an_epoch_is_every_clip_once(manifest: Path) -> None:
    settings = config(batch_size=4)
    clips = read_manifest(manifest)["train"]
    batches = Batches(clips, settings.model, settings.training)
    epochs = [
        [name for step in range(start, start + 4) for name in batches.batch(step).utterance_ids] for start in (0, 4)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(clip.utterance_id for clip in clips)
    assert epochs[0] != epochs[1]


def test_both_clips_of_a_pair_get_the_same_augmentation(manifest: Path, tmp_path: Path) -> None:
    """A spoof and the clip that it is a copy of get the same window and the same augmentation."""
    clips = read_manifest(manifest)["train"]
    # With the file of the original in place of the copy, the windows of a pair have to be equal.
    same = [replace(clip, path=manifest.parent / f"{clip.pair}.wav") if clip.pair else clip for clip in clips]
    probabilities = dict.fromkeys(("speed", "rawboost", "equaliser", "band_limit", "noise", "gain", "codec"), 0.5)
    settings = config(pairs=True, augment=probabilities)
    batches = Batches(same, settings.model, settings.training)
    named = {clip.utterance_id: clip for clip in clips}
    pairs = 0
    for step in range(6):
        batch = batches.batch(step)
        assert list(batch.labels) == [0, 1] * 4
        for index in range(0, 8, 2):
            spoof, partner = batch.utterance_ids[index : index + 2]
            if named[spoof].pair:
                pairs += 1
                assert partner == named[spoof].pair
                np.testing.assert_array_equal(batch.windows[index], batch.windows[index + 1])
    assert pairs > 6


def test_a_batch_depends_on_the_seed_and_the_step_only(manifest: Path) -> None:
    settings = config(augment={"noise": 1.0, "speed": 1.0})
    batches = [Batches(read_manifest(manifest)["train"], settings.model, settings.training) for _ in range(2)]
    batches[0].batch(0)
    first, second = batches[0].batch(3), batches[1].batch(3)
    assert first.utterance_ids == second.utterance_ids
    np.testing.assert_array_equal(first.windows, second.windows)


def test_a_clip_that_cannot_be_decoded_is_replaced(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path)
    (tmp_path / "train_spoof_3.wav").write_bytes(b"not audio")
    soundfile.write(tmp_path / "train_bonafide_2.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    settings = config(batch_size=16)
    batch = Batches(read_manifest(manifest)["train"], settings.model, settings.training).batch(0)
    assert len(batch.windows) == 16 and np.isfinite(batch.windows).all()
    assert len(batch.skipped) >= 2
    assert any("train_spoof_3" in reason for reason in batch.skipped)
    assert any("train_bonafide_2" in reason and "NaN" in reason for reason in batch.skipped)


BROKEN: dict[str, tuple[Any, str]] = {
    "no dev": (lambda rows: [row for row in rows if row["split"] != "dev"], "no trial of split `dev`"),
    "one class": (
        lambda rows: [row for row in rows if row["label"] == "spoof" or row["split"] == "train"],
        "split `dev` has 6 trials and none labelled `bonafide`",
    ),
    "unknown label": (lambda rows: [rows[0] | {"label": "maybe"}, *rows[1:]], "'maybe'"),
    "missing file": (lambda rows: [rows[0] | {"path": "nowhere.wav"}, *rows[1:]], "1 file missing"),
    "no split": (lambda rows: [{k: v for k, v in row.items() if k != "split"} for row in rows], "no column `split`"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_manifests_without_what_training_needs_are_errors(
    case: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change, wanted = BROKEN[case]
    broken = write_manifest(tmp_path / "broken.csv", change(rows_of(manifest)))
    assert spectra(monkeypatch, "train", "--manifest", broken, "-o", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert wanted in message and "broken.csv" in message and "Traceback" not in message
    assert not (tmp_path / "run").exists()
