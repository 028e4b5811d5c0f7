"""The recordings of `tests/recordings`: each is decoded to what FFmpeg's program decodes of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spectra_jax.audio import decode, read
from spectra_jax.audio.containers import DECODABLE_SUFFIXES
from spectra_jax.data.trial import Trial
from spectra_jax.inference.scorer import Scorer
from tests.audio.recordings import RECORDINGS, SECONDS, error_of

# The demo checkpoint's score of what FFmpeg's program decodes of each.
SCORES = {
    "vbr_noxing.mp3": -2.9964,
    "cat_mp3.mp3": 1.3471,
    "adts_named.mp3": -3.5446,
    "c_gsm_ms.wav": -2.9272,
    "c_ac3.wav": -2.8243,
    "v_chain.ogg": -3.0055,
    "voice_memo.m4a": -2.8672,
    "video.mp4": -2.8672,
    "whatsapp.webm": -2.9814,
    "old.wma": -2.9096,
}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer("demo")


@pytest.mark.parametrize("name", SCORES)
def test_a_recording_scores_as_what_ffmpeg_decodes_of_it(name: str, scorer: Scorer) -> None:
    (scored,) = scorer.score_trials([Trial("x", RECORDINGS / name)])
    assert scored.score == pytest.approx(SCORES[name], abs=1e-3)


@pytest.mark.parametrize("name", SECONDS)
def test_a_recording_has_as_many_samples_as_ffmpeg_decodes_of_it(name: str) -> None:
    decoded = decode(RECORDINGS / name)
    # FFmpeg 8 keeps the padding at the end of an MP4, FFmpeg 9 removes it.
    assert decoded.seconds == pytest.approx(SECONDS[name], abs=0.006)
    assert decoded.not_finite is None
    assert np.abs(decoded.samples).max() > 0.05
    assert Path(name).suffix in DECODABLE_SUFFIXES


def test_every_recording_has_a_length() -> None:
    assert {path.name for path in RECORDINGS.iterdir()} - {"README.md"} == set(SECONDS)


@pytest.mark.parametrize(("name", "cut"), [("cat_ogg.ogg", 10121), ("cat_opus.opus", 13640), ("v_chain.ogg", 15317)])
def test_a_chained_ogg_is_its_streams_one_after_another(name: str, cut: int) -> None:
    content = (RECORDINGS / name).read_bytes()
    streams = [soundfile.read(io.BytesIO(part), dtype="float32")[0] for part in (content[:cut], content[cut:])]
    samples, rate = read(RECORDINGS / name)
    assert rate == 16000
    np.testing.assert_array_equal(samples, np.concatenate(streams))


@pytest.mark.parametrize(
    "name", ["voice_memo.m4a", "whatsapp.webm", "old.wma", "short.amr", "adts_named.mp3", "c_ac3.wav"]
)
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.7, 0.99])
def test_a_cut_recording_that_ffmpeg_would_decode_is_an_error(name: str, fraction: float) -> None:
    content = (RECORDINGS / name).read_bytes()
    assert decode("intact", content).seconds == pytest.approx(SECONDS[name], abs=0.006)
    # A frame of AMR is 32 bytes: not at the end of one.
    assert error_of(content[: int(len(content) * fraction) | 1])
