"""The scorer: clips, batches and trials in, scores out, and when it loads."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from spectra_jax import audio
from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import with_weights
from spectra_jax.data.trial import Trial
from spectra_jax.errors import AudioError
from spectra_jax.inference.scorer import Scorer, ScoringProgress
from spectra_jax.inference.windows import Aggregate, WindowPolicy
from spectra_jax.model.spectra import SpectraAASIST3
from tests.engine_stand_in import stand_in_scorer
from tests.golden import recipe
from tests.inference.clips import (
    RATE,
    in_blocks,
    levels,
    replace_streams,
    trials_of,
    waveform,
    windows_of,
)


def test_score_batch(scorer: Scorer) -> None:
    clips = [
        waveform(1),
        waveform(2).astype(np.float32) / 32768,
        np.stack([waveform(3), waveform(3)], axis=1),
        waveform(4, 70000),
    ]
    scores = scorer.score_batch(clips, [RATE] * 4)
    assert [type(score) for score in scores] == [float] * 4
    prepared = np.stack(
        [recipe.preprocess(waveform(seed)) for seed in (1, 2, 3)] + [recipe.preprocess(waveform(4, 70000))]
    )
    np.testing.assert_allclose(scores, scorer.logits(prepared)[:, 1], rtol=0, atol=1e-12)
    assert scorer.score_batch([], []) == []


def test_bad_clips_of_a_batch_are_named(scorer: Scorer) -> None:
    broken = np.array([0.1, np.nan], np.float32)
    with pytest.raises(AudioError, match=r"clip 1 of the batch: 1 of 2 samples are NaN"):
        scorer.score_batch([waveform(1), broken], [RATE, RATE])
    with pytest.raises(AudioError, match="clip 0 of the batch: holds no samples"):
        scorer.score_batch([np.empty(0, np.float32)], [RATE])
    with pytest.raises(ValueError, match="2 clips, but 1 sample rates"):
        scorer.score_batch([waveform(1), waveform(2)], [RATE])


def test_trials_in_order_with_reasons_for_what_was_skipped(scorer: Scorer, tmp_path: Path) -> None:
    for seed in range(5):
        soundfile.write(tmp_path / f"good{seed}.wav", waveform(seed), RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "silent.wav", np.zeros(5000), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan] * 500), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo44.flac", np.stack([waveform(6)] * 2, axis=1), 44100)
    (tmp_path / "empty.wav").touch()
    names = ["good0", "missing", "good1", "nan", "empty", "good2", "silent", "good3", "good4", "stereo44"]
    trials = [Trial(name, tmp_path / f"{name}.{'flac' if name == 'stereo44' else 'wav'}") for name in names]
    results = list(scorer.score_trials(trials))
    assert [result.trial.utterance_id for result in results] == names
    by_name = {result.trial.utterance_id: result for result in results}
    reasons = {"missing": "no such file", "nan": "NaN or infinite", "empty": "empty (0 bytes)"}
    for name, result in by_name.items():
        if name in reasons:
            assert reasons[name] in (result.error or "")
        else:
            assert result.error is None
    assert by_name["silent"].flags == ("silent",)
    assert by_name["good1"].flags == ()
    assert by_name["stereo44"].seconds == pytest.approx(20000 / 44100)
    found = np.array([by_name[f"good{seed}"].logits for seed in range(5)])
    np.testing.assert_allclose(found, scorer.logits(windows_of(range(5))), rtol=0, atol=1e-12)


def test_logits_that_are_not_finite_skip_a_clip(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", waveform(1), RATE)
    scorer = stand_in_scorer(lambda windows: np.full((len(windows), 2), np.nan))
    (result,) = scorer.score_trials([Trial("a", tmp_path / "a.wav")])
    assert result.logits is None
    assert "nan" in (result.error or "")
    with pytest.raises(AudioError, match="clip 0 of the batch: the network's logits are not finite"):
        scorer.score_batch([waveform(1)], [RATE])


@pytest.mark.slow
def test_unload_and_load_again() -> None:
    scorer = Scorer("demo", batch_size=1)
    scorer.load()
    before = scorer.model
    scorer.load()
    assert scorer.model is before
    scores = scorer.score_batch([waveform(1)], [RATE])
    released = weakref.ref(before)
    del before
    scorer.unload()
    gc.collect()
    assert released() is None, "the weights are still in memory"
    assert scorer.score_batch([waveform(1)], [RATE]) == scores


def test_threads_that_score_at_once_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[SpectraAASIST3] = []

    def load(abstract: SpectraAASIST3, checkpoint: Checkpoint) -> SpectraAASIST3:
        loads.append(abstract)
        return with_weights(abstract, checkpoint)

    monkeypatch.setattr("spectra_jax.inference.engine.with_weights", load)
    shared = Scorer("demo", batch_size=1)
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda seed: shared.score_batch([waveform(seed)], [RATE]), [1, 2, 1, 2]))
    assert len(loads) == 1
    assert scores[:2] == scores[2:]
    assert scores[0] != scores[1]


@pytest.mark.usefixtures("annotations_unchecked")
def test_invalid_arguments() -> None:
    with pytest.raises(ValueError, match="batch_size = 0"):
        Scorer("demo", batch_size=0)
    with pytest.raises(ValueError, match="batch_size = 'most'"):
        Scorer("demo", batch_size="most")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="devices is empty"):
        Scorer("demo", devices=[])
    with pytest.raises(ValueError, match="'float8' is not one of float32, tf32, bfloat16, float16, int8, float64"):
        Scorer("demo", precision="float8")


def test_every_window_is_scored_as_if_it_were_the_first(scorer: Scorer, tmp_path: Path) -> None:
    long, rate = waveform(9, 64_600 + 2 * 16_000 + 500), 16_000
    soundfile.write(tmp_path / "long.wav", long, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", waveform(1), rate, subtype="FLOAT")
    trials = [Trial("long", tmp_path / "long.wav"), Trial("short", tmp_path / "short.wav")]
    emphasised = audio.pre_emphasis(long.astype(np.float32))
    windows = [emphasised[start : start + 64_600] for start in (0, 16_000, 32_000)]
    windows.append(np.tile(emphasised[48_000:], 2)[:64_600])
    wanted = scorer.logits(np.stack(windows))
    found = {
        aggregate: list(scorer.score_trials(trials, window_policy=WindowPolicy(1.0, aggregate)))
        for aggregate in get_args(Aggregate)
        if aggregate != "speech-mean"
    }
    assert list(found) == ["first", "mean", "min", "median"]
    for results in found.values():
        assert results[0].window_scores == pytest.approx(wanted[:, 1], abs=1e-12)
        assert len(results[1].window_scores or ()) == 1
    plain = list(scorer.score_trials(trials))
    assert [result.window_scores for result in plain] == [None, None]
    assert found["first"][0].logits == pytest.approx(plain[0].logits, abs=1e-12)
    assert found["mean"][0].logits == pytest.approx(wanted.mean(axis=0), abs=1e-12)
    assert found["median"][0].logits == pytest.approx(np.median(wanted, axis=0), abs=1e-12)
    assert found["min"][0].logits == pytest.approx(wanted[wanted[:, 1].argmin()], abs=1e-12)


@pytest.mark.parametrize(
    ("stated", "shares"),
    [
        (64_600 + 8 * RATE, [3 / 9, 6 / 9, 1, 2]),
        (None, [0, 0, 1, 2]),
        (0, [1, 1, 1, 2]),  # wrong
        (64_600 + 89 * RATE, [3 / 90, 6 / 90, 1, 2]),  # wrong
    ],
)
def test_progress_moves_while_a_long_recording_is_scored(
    stated: int | None, shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = {"long": in_blocks(np.ones(64_600 + 8 * RATE)), "missing": in_blocks(np.ones(0))}
    replace_streams(monkeypatch, recordings, expected_samples=stated)
    scorer = stand_in_scorer(levels)
    found: list[ScoringProgress] = []
    list(scorer.score_trials(trials_of(recordings), window_policy=WindowPolicy(1.0), on_progress=found.append))
    assert [done.windows for done in found] == [3, 6, 9, 9]
    assert [done.trials for done in found] == pytest.approx(shares)
