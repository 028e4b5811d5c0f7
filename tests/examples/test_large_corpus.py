"""The larger corpus: hashes of packages, the audio chain, and splits; nothing is downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.large_corpus import chain
from examples.large_corpus.engines import (
    FOLDER,
    JOINED_SHARE,
    TABLE,
    Workshop,
    join_as_recordings,
    plan_copies,
    read_engines,
)
from examples.large_corpus.evaluate import ATTACKS, FIRST_SPEAKERS, figures_by_attack
from examples.large_corpus.manifest import SMALL_CORPUS, check_disjoint, read_manifest, split_of_clip
from examples.large_corpus.packages import Package, PackageError, compute_sha256, fetch_package, read_packages
from examples.large_corpus.people import read_people
from examples.large_corpus.start import write_start
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.training.config import RunConfig


def write_package(folder: Path) -> Package:
    """Package of a file that lies in the cache."""
    path = folder / "voices.deb"
    path.write_bytes(b"not the file of the table")
    return Package("debian", "voices", "1.0-1", path.name, compute_sha256(path), "MIT")


def test_file_of_the_table_is_taken_from_the_cache(tmp_path: Path) -> None:
    package = write_package(tmp_path)
    assert fetch_package(package, tmp_path) == tmp_path / package.file


def test_other_hash_is_refused_with_both_hashes(tmp_path: Path) -> None:
    package = write_package(tmp_path)
    with pytest.raises(PackageError, match=f"{package.sha256}.*{'0' * 64}"):
        fetch_package(replace(package, sha256="0" * 64), tmp_path)


def test_chain_depends_on_the_identifier_alone() -> None:
    times = np.arange(5 * chain.RATE) / chain.RATE
    sound = 0.1 * np.sin(2 * np.pi * 440 * times) * (1.1 + np.sin(2 * np.pi * 3 * times))
    first, again, other = (
        chain.finish_clip(chain.prepare_speech(sound, name), name) for name in ("person_00", "person_00", "person_01")
    )
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other)
    assert chain.active_level(first / 32768) == pytest.approx(chain.LEVEL, abs=0.2)
    assert chain.SHORTEST <= len(first) / chain.RATE <= chain.LONGEST


def test_no_person_of_eval_is_in_train() -> None:
    people = {person.speaker: person.split for person in read_people()}
    small = read_manifest(SMALL_CORPUS / "manifest.csv")
    for row in small:
        assert (row.split == "eval") == (people.get(row.speaker, row.split) == "eval")
    assert sum(split == "eval" for split in people.values()) >= 5
    assert sum(split == "train" for split in people.values()) >= 15
    assert [split_of_clip("train", number) for number in range(6)] == ["train"] * 5 + ["dev"]
    check_disjoint(small)
    with pytest.raises(ValueError, match=small[0].speaker):
        check_disjoint([*small, replace(small[0], split="eval")])


def test_half_of_the_synthetic_sounds_get_the_gaps_of_joined_recordings() -> None:
    times = np.arange(3 * chain.RATE) / chain.RATE
    sound = 0.1 * np.sin(2 * np.pi * 440 * times) * (1.1 + np.sin(2 * np.pi * times / 0.75))
    joined = [join_as_recordings(sound, f"engine_voice_{number:02d}") for number in range(60)]
    changed = [samples for samples in joined if samples is not sound]
    assert len(changed) / len(joined) == pytest.approx(JOINED_SHARE, abs=0.15)
    levels = chain.frame_levels(changed[0])
    assert np.mean(levels < -100) > 0.02  # silence between the words, which the sound itself does not have
    assert len(changed[0]) / chain.RATE <= 3 + 6 * chain.GAP


def test_neural_copies_are_of_training_speakers_and_name_their_recording(tmp_path: Path) -> None:
    vocoder = next(engine for engine in read_engines() if engine.copies_recordings)
    recordings = [row for row in read_manifest(SMALL_CORPUS / "manifest.csv") if row.label == "bonafide"]
    plan = plan_copies(vocoder, recordings, Workshop(tmp_path, tmp_path, read_packages(TABLE)))
    assert {row.split for _, row in plan} == {"train", "dev"}
    for job, row in plan:
        assert job.utterance_id == f"{row.utterance_id}_{vocoder.name}"
        assert int(row.utterance_id.rsplit("_", 1)[1]) % 2
        assert job.to_dict()["source"] == str(job.source)


def test_figures_by_attack_count_the_speakers_asked_for_and_all_text_to_speech() -> None:
    rows, scores = [], []
    for speaker, level in (("june", 2.0), ("other", -2.0)):
        for number in range(4):
            rows.append({"speaker": speaker, "label": "bonafide", "attack": "-"})
            scores.append(level + 0.1 * number)
            for attack in ("world", "lpc"):
                rows.append({"speaker": speaker, "label": "spoof", "attack": attack})
                scores.append(level - 1 + 0.1 * number)
    for attack in ("flite", "kokoro", "hibari", "gnuspeech"):
        for number in range(4):
            rows.append({"speaker": f"{attack}:voice", "label": "spoof", "attack": attack})
            scores.append(0.1 * number)
    everyone = figures_by_attack(rows, np.array(scores))
    first = figures_by_attack(rows, np.array(scores), FIRST_SPEAKERS)
    assert list(everyone) == list(first) == list(ATTACKS)
    assert {rate for rate, _ in first.values()} == {0.0}
    assert {rate for rate, _ in everyone.values()} == {0.5}


@pytest.mark.long
def test_start_has_the_encoder_of_the_first_detector_and_a_new_back_end(tmp_path: Path) -> None:
    write_start("demo", RunConfig.from_json(FOLDER / "detector.json"), tmp_path / "start")
    first, start = dict(open_checkpoint("demo")), dict(open_checkpoint(str(tmp_path / "start")))
    assert first.keys() == start.keys()
    for path in ("encoder.feature_extractor.layers.0.conv.kernel", "bridge.linear1.kernel"):
        np.testing.assert_array_equal(start[path], first[path])
    assert any(not np.array_equal(start[path], first[path]) for path in first if path.endswith("kernel"))
