"""What a page shows of a recording: its own samples, bounded in size, and only those that were scored."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spectra_jax.errors import AudioError
from spectra_jax.inference.recordings import trial_of
from spectra_jax.reporting.recordings import COLUMNS, choose_codec, share_audio_seconds, view_recording

pytest.importorskip("PIL", reason="needs the extra `report`")
RATE = 16_000


def noise(seconds: float) -> np.ndarray:
    values = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE))
    return (np.round(values * 32768) / 32768).astype(np.float32)


def decoded(url: str | None) -> np.ndarray:
    assert url is not None
    samples: np.ndarray = soundfile.read(io.BytesIO(base64.b64decode(url.partition(",")[2])), dtype="float32")[0]
    return samples


def test_waveform_and_lossless_audio_are_those_of_the_samples() -> None:
    samples = noise(2)
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    view = view_recording(trial_of(samples, RATE), 2.0, digest, 1.5, "FLAC")
    np.testing.assert_array_equal(decoded(view.audio), samples[: RATE * 3 // 2])
    assert view.audio_seconds == 1.5 and len(view.low) == len(view.high) == COLUMNS
    assert (view.low.min(), view.high.max()) == (samples.min(), samples.max())
    assert view.low[0] == samples[: 2 * RATE // COLUMNS].min()


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_other_rates_from_the_bytes_of_a_file(rate: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(rate) / 20), rate, format="WAV")
    view = view_recording(trial_of(file.getvalue()), 1.0, None, 10.0, "MP3")
    assert len(decoded(view.audio)) == RATE and view.audio_seconds == 1.0
    assert np.isfinite(view.low).all() and np.isfinite(view.high).all()


def test_fewer_samples_than_columns_and_no_audio() -> None:
    view = view_recording(trial_of(noise(0.02), RATE), 0.02, None, 0.0, "FLAC")
    assert len(view.low) == 320 and view.audio is None and view.audio_seconds == 0.0


def test_a_recording_that_changed_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1), RATE)
    with pytest.raises(AudioError, match=r"a\.wav: has changed since it was scored"):
        view_recording(trial_of(path), 1.0, "0" * 64, 1.0, "FLAC")
    path.unlink()
    with pytest.raises(AudioError, match="no such file"):
        view_recording(trial_of(path), 1.0, "0" * 64, 1.0, "FLAC")


def test_audio_of_a_page_is_shared_between_its_recordings() -> None:
    assert share_audio_seconds([10, 20], total=30) == float("inf")
    assert share_audio_seconds([100, 10, 50], total=100) == 45
    assert share_audio_seconds([100, 100], total=100) == 50
    assert share_audio_seconds([], total=100) == float("inf")
    assert (choose_codec(60), choose_codec(600)) == ("FLAC", "MP3")
