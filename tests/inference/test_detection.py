"""What scoring one recording finds."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spectra_jax.audio.speech import SpeechTrack, has_detector
from spectra_jax.errors import AudioError, InputError
from spectra_jax.evaluation.metrics import Calibration
from spectra_jax.inference.detection import Detection, Segment, Window, find_segments, nearest_stretches
from spectra_jax.inference.scorer import Scorer
from spectra_jax.inference.windows import FIRST_WINDOW, WindowPolicy
from tests.engine_stand_in import stand_in_scorer
from tests.inference.clips import RATE, levels, replace_streams

WINDOW = 64_600 / RATE
MEAN = WindowPolicy(1.0, "mean")


@pytest.fixture
def no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `inspect` is not installed."""
    monkeypatch.setattr("spectra_jax.audio.speech.find_spec", lambda name: None)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """The score of a window is the level of its last sample."""
    return stand_in_scorer(levels)


def steps(*values: float, seconds: float = 8.0) -> np.ndarray:
    return np.repeat(np.array(values, np.float32), int(seconds * RATE))


def windows_of(*scores: float, hop: float = 1.0, length: float = 2.0) -> list[Window]:
    return [Window(index * hop, index * hop + length, (0.0, score)) for index, score in enumerate(scores)]


@pytest.mark.usefixtures("no_detector")
def test_every_kind_of_recording_has_the_same_detection(scorer: Scorer, tmp_path: Path) -> None:
    samples = steps(0.5, 0.25)
    path = tmp_path / "call.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    found = scorer(path, window_policy=MEAN)
    assert found.name == str(path)
    with path.open("rb") as file:
        others = [scorer(one, window_policy=MEAN) for one in (str(path), path.read_bytes(), file)]
    arrays = [scorer(samples, RATE, window_policy=MEAN), scorer((samples, RATE), window_policy=MEAN)]
    for other in [*others, *arrays]:
        assert (other.logits, other.windows, other.samples_sha256) == (
            found.logits,
            found.windows,
            found.samples_sha256,
        )
    assert [other.sha256 for other in others] == [found.sha256] * 3
    assert [other.sha256 for other in arrays] == [None, None]
    assert len(found.windows) == 13
    assert (found.windows[-1].end, found.windows[-1].flags) == (16.0, ("partial",))
    assert found.heard_seconds == pytest.approx(16.0)


def test_the_first_window_is_that_of_score_batch(scorer: Scorer) -> None:
    samples = steps(0.5, 0.25)
    found = scorer(samples, RATE, window_policy=FIRST_WINDOW)
    assert [found.score] == scorer.score_batch([samples], [RATE])
    assert "heard 4.04 of 16.00 s: only the first window was scored" in found.warnings


def test_a_list_costs_only_its_bad_recordings(scorer: Scorer, tmp_path: Path) -> None:
    missing, good = scorer([tmp_path / "missing.wav", (steps(0.5), RATE)], window_policy=MEAN)
    assert missing.error is not None and "no such file" in missing.error
    assert (missing.score, missing.label, missing.windows) == (None, None, ())
    assert good.score == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(AudioError, match="no such file"):
        scorer(tmp_path / "missing.wav")


@pytest.mark.usefixtures("annotations_unchecked")
def test_what_is_not_a_recording(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="samples need a sample rate"):
        scorer(np.zeros(9))
    with pytest.raises(ValueError, match="files state their own"):
        scorer("a.wav", 16_000)
    with pytest.raises(TypeError, match="opened as text"):
        scorer(io.StringIO("a"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int: a path, a URL"):
        scorer(3)  # type: ignore[call-overload]
    with pytest.raises(AudioError, match="more than the 10 bytes"):
        scorer(bytes(20), max_bytes=10)


@pytest.mark.usefixtures("no_detector")
def test_nothing_is_decided_without_a_threshold(scorer: Scorer) -> None:
    samples = steps(0.5, 0.25)
    plain = scorer(samples, RATE, window_policy=MEAN)
    assert (plain.label, plain.segments, plain.threshold, plain.llr, plain.p_spoof) == (None, (), None, None, None)
    named = scorer(samples, RATE, window_policy=MEAN, threshold="published-readme")
    assert named.label == "bonafide"
    assert any("in the README of lab260/Spectra-AASIST3; nobody calibrated it" in one for one in named.warnings)
    stated = scorer(samples, RATE, window_policy=MEAN, threshold=0.3)
    assert stated.label == "bonafide"
    (segment,) = stated.segments
    assert segment.end == 16.0
    assert segment.lowest == pytest.approx(0.25, abs=1e-6)
    for wrong in ("best", float("nan"), float("inf"), -1.75e308, "1e7"):
        with pytest.raises(InputError, match="threshold"):
            scorer(samples, RATE, threshold=wrong)


def test_a_calibration_gives_a_ratio_and_a_probability(scorer: Scorer) -> None:
    calibration = Calibration("logistic", (0.0, 1.0), (0.0, 4.0), 9, 9)
    found = scorer(steps(0.5), RATE, window_policy=MEAN, calibration=calibration, spoof_prior=0.5)
    assert found.llr == pytest.approx(2.0, abs=1e-5)
    assert found.p_spoof == pytest.approx(1 / (1 + np.exp(2)), abs=1e-5)
    with pytest.raises(InputError, match="spoof prior of 1"):
        scorer(steps(0.5), RATE, calibration=calibration, spoof_prior=1.0)


def test_warnings_of_silence_and_shortness(scorer: Scorer) -> None:
    (found,) = scorer([(np.zeros(320, np.float32), RATE)], window_policy=MEAN)
    assert found.warnings == (
        "0.02 s is repeated 202 times to fill a window of 4.04 s",
        "digital silence: every sample is zero, and the score says nothing",
    )


@pytest.mark.skipif(not has_detector(), reason="needs the extra `inspect`")
def test_tones_do_not_count_and_speech_does(scorer: Scorer) -> None:
    clip, rate = soundfile.read(Path("examples/corpus/eval/june_00.flac").resolve(), dtype="float32")
    tone = (0.1 * np.sin(np.arange(10 * RATE) * 0.2)).astype(np.float32)
    (alone,) = scorer([(tone, RATE)])
    assert any("found no speech" in warning for warning in alone.warnings)
    found = scorer(np.concatenate([tone, clip, clip]), rate)
    assert not found.windows[0].counts and found.windows[0].flags == ("little speech",)
    assert found.windows[-4].counts
    assert found.score == pytest.approx(np.mean([window.score for window in found.windows if window.counts]))
    trimmed = scorer(np.concatenate([tone, clip, clip]), rate, window_policy=WindowPolicy(0.5, speech_only=True))
    assert 9.5 < trimmed.windows[0].start < 10.5
    assert trimmed.heard_seconds == pytest.approx((trimmed.seconds or 0) - trimmed.windows[0].start, abs=1e-3)


@pytest.mark.skipif(not has_detector(), reason="needs the extra `inspect`")
def test_there_is_no_more_speech_than_the_recording_is_long(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeechTrack, "seconds", 8.01)
    assert scorer(steps(0.5), RATE).speech_seconds == 8.0


@pytest.mark.usefixtures("no_detector")
def test_without_a_detector_all_windows_count(scorer: Scorer) -> None:
    found = scorer(steps(0.5, 0.25), RATE)
    assert {(window.speech_share, window.counts) for window in found.windows} == {(None, True)}
    assert "speech was not measured, so that all windows count: pip install 'spectra-jax[inspect]'" in found.warnings
    with pytest.raises(InputError, match="pip install"):
        scorer(steps(0.5), RATE, window_policy=WindowPolicy(speech_only=True))


def test_segments_are_runs_of_windows_that_count() -> None:
    windows = windows_of(1, -1, -3, 1, -1)
    assert find_segments(windows, 0.0) == (Segment(1.5, 3.5, -2.0, -3.0, 2), Segment(4.5, 6.0, -1.0, -1.0, 1))
    windows[2] = Window(2.0, 4.0, (0.0, -3.0), counts=False)
    assert [(one.start, one.end) for one in find_segments(windows, 0.0)] == [(1.5, 2.5), (4.5, 6.0)]
    assert find_segments([], 0.0) == ()
    # What lies between windows with a long hop was not scored.
    assert [(one.start, one.end) for one in find_segments(windows_of(-1, -1, hop=5.0), 0.0)] == [(0.0, 2.0), (5.0, 7.0)]


def test_stretches_neither_overlap_nor_leave_their_windows() -> None:
    assert nearest_stretches(windows_of(0, 0, 0)) == [(0.0, 1.5), (1.5, 2.5), (2.5, 4.0)]
    assert nearest_stretches(windows_of(0, 0, hop=5.0)) == [(0.0, 2.0), (5.0, 7.0)]


@pytest.mark.usefixtures("no_detector")
def test_plain_values_for_json(scorer: Scorer) -> None:
    found = scorer(steps(0.5, 0.25), RATE, window_policy=MEAN, threshold=0.3)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (read["score"], read["label"], len(read["windows"])) == (found.score, "bonafide", 13)
    assert read["segments"][0]["start"] == found.segments[0].start
    pytest.importorskip("pandas")
    frame = found.to_dataframe()
    assert frame["score"].tolist() == [window.score for window in found.windows]


def test_a_detection_has_logits_or_an_error() -> None:
    for wrong in ({"logits": None}, {"logits": (0.0, 1.0), "error": "x"}):
        with pytest.raises(ValueError, match="either logits or an error"):
            Detection("a", **wrong)


@pytest.mark.long
@pytest.mark.usefixtures("no_detector")
def test_ten_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours are 2.3 GB of samples, and their windows 18 GB."""
    import tracemalloc

    from spectra_jax.inference.recordings import trial_of

    block = np.full(RATE, 0.5, np.float32)

    def blocks() -> Iterator[np.ndarray]:
        yield from (block for _ in range(36_000))

    replace_streams(monkeypatch, {"ten": blocks})
    scorer = stand_in_scorer(levels, batch_size=8)
    settings = scorer.detection_settings(WindowPolicy(0.5, "mean"))
    tracemalloc.start()
    try:
        (found,) = scorer.detect([trial_of("ten.wav")], settings)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.seconds == 36_000
    assert len(found.windows) == 71_993
    assert peak < 200e6
