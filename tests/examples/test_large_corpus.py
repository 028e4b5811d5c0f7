"""The larger corpus: hashes of packages, the audio chain, and splits; nothing is downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.large_corpus import chain
from examples.large_corpus.__main__ import main as build_corpus
from examples.large_corpus.engine_worker import (
    HIFIGAN_MEL,
    MBMELGAN_MEL,
    MelSettings,
    dittli_phonemes,
    mel_filters,
    mel_spectrum,
)
from examples.large_corpus.engines import (
    FOLDER,
    JOINED_SHARE,
    TABLE,
    EngineError,
    Workshop,
    join_as_recordings,
    plan_copies,
    read_engines,
    run_program,
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


def test_each_training_recording_has_the_copy_of_one_neural_vocoder(tmp_path: Path) -> None:
    vocoders = [engine for engine in read_engines() if engine.copies_recordings]
    recordings = [row for row in read_manifest(SMALL_CORPUS / "manifest.csv") if row.label == "bonafide"]
    assert {row.split for row in recordings} == {"train", "dev", "eval"}
    copied = []
    for vocoder in vocoders:
        plan = plan_copies(vocoder, recordings, Workshop(tmp_path, tmp_path, read_packages(TABLE)))
        assert {row.split for _, row in plan} == {"train", "dev"}
        for job, row in plan:
            assert job.utterance_id == f"{row.utterance_id}_{vocoder.name}"
            assert job.to_dict()["source"] == str(job.source)
        copied += [row.utterance_id for _, row in plan]
    assert sorted(copied) == sorted(row.utterance_id for row in recordings if row.split != "eval")


def test_training_has_eight_engines_of_which_four_are_neural() -> None:
    speaking = [engine for engine in read_engines() if engine.split == "train" and not engine.copies_recordings]
    assert len(speaking) >= 8
    assert sum(engine.kind == "neural" for engine in speaking) >= 4
    assert not {"kokoro", "flite", "lpc"} & {engine.name for engine in read_engines()}


@pytest.mark.parametrize("settings", [MBMELGAN_MEL, HIFIGAN_MEL], ids=["mbmelgan", "hifigan"])
def test_mel_spectrum_has_a_tone_in_its_band(settings: MelSettings) -> None:
    times = np.arange(settings.rate) / settings.rate
    mel = mel_spectrum(0.5 * np.sin(2 * np.pi * 1000 * times), settings)
    # One frame per hop, and one more where both ends are mirrored by half a transform.
    assert len(mel) == 1 + (settings.rate + 2 * settings.padding - settings.fft) // settings.hop
    filters = mel_filters(settings)
    nearest = round(1000 * settings.fft / settings.rate)
    assert mel.mean(0).argmax() == filters[nearest].argmax()
    width = settings.rate / settings.fft
    # The area of a filter is one, up to the sampling of its edges by bins: half a bin of the narrowest filters.
    np.testing.assert_allclose(filters.sum(0)[20:] * width, 1, atol=0.1)


def test_program_without_its_library_ends_the_run_with_its_message(tmp_path: Path) -> None:
    program = tmp_path / "espeak"
    program.write_text("#!/bin/sh\necho libpulse-simple.so.0: cannot open shared object file >&2\nexit 127\n")
    program.chmod(0o755)
    with pytest.raises(EngineError, match=r"espeak cannot start \(libpulse-simple\.so\.0"):
        run_program([str(program)])


def test_what_the_machine_lacks_is_named_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as exit_info:
        build_corpus(["--output", str(tmp_path / "corpus")])
    assert exit_info.value.code == 2
    assert "apt-get, dpkg-deb, node, npm" in capsys.readouterr().err
    assert not (tmp_path / "corpus").exists()


def test_sentence_becomes_phonemes_with_their_stress() -> None:
    words = {"OF": ["AH1", "V"], "SPEECH": ["S", "P", "IY1", "CH"]}
    phonemes, stresses = dittli_phonemes("Of speech.", words)
    assert phonemes == ["_", "ah", "V", "s", "p", "iy", "ch", ".", "_"]
    assert stresses == [0, 2, 0, 0, 0, 2, 0, 0, 0]
    with pytest.raises(ValueError, match="Unheard"):
        dittli_phonemes("Unheard of", words)


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
