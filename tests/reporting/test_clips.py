"""Clips: found where they may be, within the limits of a page, and what is embedded is what the file has."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spectra_jax.errors import AudioError
from spectra_jax.reporting.clips import find_clips, make_clip, spectrogram
from spectra_jax.reporting.systems import System, read_systems

Image = pytest.importorskip("PIL.Image", reason="needs the extra `report`")


def ids(systems: list[System]) -> list[str]:
    return list(systems[0].scores.utterance_ids)


def test_clips_are_limited_in_number_length_and_bytes(recordings: Path) -> None:
    systems = read_systems([recordings / "s.csv"], resamples=0)
    found = find_clips(ids(systems), systems, recordings / "audio", clips=5)
    assert list(found) == ids(systems)[:5], "the first trials, in their order"
    assert {clip.seconds for clip in found.values()} == {64_600 / 16_000}
    assert all(clip.shortened for clip in found.values())
    found = find_clips(ids(systems), systems, recordings / "audio", clip_bytes=500_000)
    assert 0 < sum(len(clip.audio) + len(clip.spectrogram) for clip in found.values()) <= 500_000


def test_audio_beside_the_score_file_is_found(recordings: Path) -> None:
    systems = read_systems([recordings / "s.csv"], resamples=0)
    assert list(find_clips(["c3", "unknown"], systems, None)) == ["c3"]


def test_audio_from_elsewhere_is_not_embedded(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A score file of unknown origin names a recording outside of its folder."""
    other = tmp_path_factory.mktemp("published")
    table = (recordings / "s.csv").read_text().replace("audio/", f"{recordings}/audio/")
    (other / "s.csv").write_text(table)
    systems = read_systems([other / "s.csv"], resamples=0)
    assert find_clips(ids(systems), systems, None) == {}
    assert find_clips(ids(systems), systems, recordings), "where the folder is named, they are found"
    (other / "s.csv").write_text(table.replace(f"{recordings}/audio/", "../../x/"))
    systems = read_systems([other / "s.csv"], resamples=0)
    assert find_clips([f"../{recordings.name}/audio/c0"], systems, other) == {}, "nor by an id"


def test_damaged_audio_costs_its_clip_only(recordings: Path) -> None:
    systems = read_systems([recordings / "s.csv"], resamples=0)
    (recordings / "audio" / "c0.wav").write_bytes(b"no audio")
    assert list(find_clips(["c0", "c1"], systems, None)) == ["c1"]


def test_the_clip_is_the_audio_of_the_file(tmp_path: Path) -> None:
    samples = np.round(np.random.default_rng(0).uniform(-0.5, 0.5, 20_000) * 32768) / 32768
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="PCM_16")
    clip = make_clip(tmp_path / "a.wav")
    kind, _, data = clip.audio.partition(";base64,")
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert (kind, rate) == ("data:audio/flac", 16_000) and not clip.shortened and clip.seconds == 20_000 / 16_000
    np.testing.assert_array_equal(audio, samples)
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        make_clip(tmp_path / "nan.wav")


@pytest.mark.parametrize("frequency", [1000, 4000, 7000])
def test_a_tone_is_a_bright_line_at_its_frequency(frequency: int) -> None:
    tone = np.sin(2 * np.pi * frequency * np.arange(16_000) / 16_000)
    image = Image.open(io.BytesIO(spectrogram(tone)))
    assert (image.format, image.mode, image.size) == ("PNG", "P", (360, 128))
    brightness = np.asarray(image.convert("L"), float).mean(axis=1)
    from_the_bottom = 1 - (brightness.argmax() + 0.5) / 128
    assert from_the_bottom == pytest.approx(frequency / 8000, abs=0.02)
    assert brightness.max() > 4 * np.median(brightness)


def test_audio_shorter_than_a_frame_has_a_spectrogram() -> None:
    assert spectrogram(np.zeros(10)).startswith(b"\x89PNG")
