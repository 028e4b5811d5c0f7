"""Verifying: agreement, near ties, located divergences, published scores, and the command."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file

from spectra_jax.data.score_files import Scores
from spectra_jax.data.sources import collect
from spectra_jax.data.trial import Trial
from spectra_jax.inference.decoding import decode_trial
from spectra_jax.inference.scorer import Scorer
from spectra_jax.verification import (
    OnnxReference,
    Reference,
    TorchReference,
    sample,
    verify,
    verify_scores,
)
from spectra_jax.verification.swaps import swapped_scores
from tests.conftest import spectra
from tests.golden import recipe
from tests.published_detectors import write_small
from tests.verification.pytorch_reference import CODE, FIRST_STAGE_OF_WRONG_WEIGHT, TINY, export, write_reference

pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")

pytestmark = pytest.mark.parity


def test_a_correct_torch_module_agrees_in_float64(clips: list[Trial], correct_reference: Path) -> None:
    reference = TorchReference(correct_reference, run_code=True, float64=True)
    found = verify(TINY, reference, clips, precision="float64", tolerance=1e-9, gap_bound=0.0, resamples=50)
    assert found.comparison.agrees and found.divergence is None, found.comparison.verdict
    assert list(found.skipped) == ["empty"] and len(found.ours) == 10
    numbers = found.comparison.to_dict()
    assert numbers["max_difference"] < 1e-9 and numbers["eer_percent"][0] == numbers["eer_percent"][1]


def test_spectra_0_agrees_and_a_wrong_weight_is_located(clips: list[Trial], tmp_path: Path) -> None:
    folder = write_small("ecapa-tdnn", tmp_path / "reference", back_end="ecapa-tdnn")
    shutil.copyfile(CODE, folder / "reference.py")
    how: dict[str, Any] = {"precision": "float64", "tolerance": 1e-9, "resamples": 0}
    found = verify(folder, TorchReference(folder, run_code=True, float64=True), clips[:4], **how)
    assert found.comparison.agrees, found.comparison.verdict
    wrong = shutil.copytree(folder, tmp_path / "wrong")
    tensors = load_file(wrong / "model.safetensors")
    tensors["ecapa_tdnn.layer2.convs.1.weight"] *= 1.5
    save_file(tensors, wrong / "model.safetensors")
    found = verify(folder, TorchReference(wrong, run_code=True, float64=True), clips[:4], **how)
    assert not found.comparison.agrees
    assert found.divergence is not None and found.divergence.first == "ecapa.layer2"
    names = {stage.name for stage in found.divergence.stages}
    assert {"bridge", "ecapa.first", "ecapa.layer1", "ecapa.layer3", "ecapa.pooled", "logits"} <= names


@pytest.mark.long
@pytest.mark.parametrize("weight", FIRST_STAGE_OF_WRONG_WEIGHT)
def test_a_wrong_weight_is_located_in_torch(clips: list[Trial], tmp_path: Path, weight: str) -> None:
    reference = TorchReference(write_reference(tmp_path / "wrong", weight), run_code=True)
    found = verify(TINY, reference, clips[:4], tolerance=1e-6, gap_bound=0.0, resamples=0)
    assert not found.comparison.agrees
    assert found.divergence is not None and found.divergence.first == FIRST_STAGE_OF_WRONG_WEIGHT[weight]
    before = [stage for stage in found.divergence.stages if not stage.diverges]
    assert before and max(stage.error for stage in before) < 1e-4


@pytest.mark.slow
def test_a_correct_export_agrees_but_for_near_ties(clips: list[Trial], exported: Path) -> None:
    reference = OnnxReference(exported)
    found = verify(TINY, reference, clips, batch_size=3, resamples=0)
    assert found.comparison.agrees, found.comparison.verdict
    windows = np.stack([recipe.preprocess(recipe.waveform(1, 32300))])
    # The outputs of a branch, and the inputs of its pools, have no names in an export.
    located = set(reference.stages(windows))
    assert {"ssl.feature_projection", "ssl.layer0", "ssl.last_hidden_state", "bridge", "residual_encoder"} <= located
    assert {"attention", "gat_s", "pool_s", "gat_t", "pool_t", "branch1.pool_s", "branch4.pool_t"} <= located


@pytest.mark.long
@pytest.mark.slow
def test_a_wrong_weight_is_located_in_onnx(clips: list[Trial], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `verify` (onnx, onnxruntime)")
    folder = write_reference(tmp_path / "wrong", "aasist.GAT_layer_T.att_proj.base_weight")
    # The export has a fixed batch size, which three clips do not fill. Ours is float64, the export float32.
    found = verify(
        TINY, OnnxReference(export(folder, batch=2)), clips[:4], precision="float64", gap_bound=0.0, resamples=0
    )
    assert found.divergence is not None and found.divergence.first == "gat_t"


class ShiftedNetwork(Reference):
    """Our own network, with scores that are shifted for given clips."""

    name = "shifted"

    def __init__(self, shifts: dict[int, float]):
        self._scorer = Scorer(TINY, batch_size=8, diagnostics=True)
        self._shifts, self._seen = shifts, 0

    def logits(self, windows: np.ndarray) -> np.ndarray:
        logits = self._scorer.logits(windows).copy()
        for index in range(len(windows)):
            logits[index, 1] += self._shifts.get(self._seen + index, 0.0)
        self._seen += len(windows)
        return logits

    def stages(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        return {}


@pytest.mark.long
@pytest.mark.slow
def test_a_jump_at_a_near_tie_is_explained_and_a_wrong_score_is_not(clips: list[Trial]) -> None:
    ours = verify(TINY, ShiftedNetwork({}), clips, resamples=0).ours
    gaps = ours.rank_gaps
    assert gaps is not None
    near, far = int(gaps.argmin()), int(gaps.argmax())
    decoded = {trial.utterance_id: trial for trial in clips}[ours.utterance_ids[near]]
    scorer = Scorer(TINY)
    window = decode_trial(decoded, scorer.model.config).window
    assert window is not None
    (swapped,) = swapped_scores(scorer.model, window[None], 2e-5)
    jump = max((score - swapped[0] for score in swapped), key=abs)
    assert abs(jump) > 1e-3
    tie = verify(TINY, ShiftedNetwork({near: jump}), clips, resamples=0)
    assert tie.comparison.agrees and tie.comparison.n_explained == 1 and tie.divergence is None
    for index, shift in ((near, 0.5), (far, jump)):
        wrong = verify(TINY, ShiftedNetwork({index: shift}), clips, resamples=0)
        assert not wrong.comparison.agrees and wrong.divergence is not None and wrong.divergence.first is None
    # A bias at every near tie, as of published scores.
    biased = Scores("biased", ours.utterance_ids, ours.scores + 0.05 * (gaps < 2e-5))
    found = verify_scores(TINY, biased, clips, resamples=0)
    assert not found.comparison.agrees and found.comparison.n_unexplained == (gaps < 2e-5).sum() >= 2


@pytest.mark.long
@pytest.mark.slow
def test_the_bound_of_near_ties_is_measured_with_our_network(tmp_path: Path) -> None:
    for seed in range(24):
        soundfile.write(tmp_path / f"seed_{seed:02d}.wav", recipe.waveform(seed, 32300), 16000)
    trials = list(collect([tmp_path]))
    found = verify(TINY, ShiftedNetwork({3: 0.05}), trials, resamples=0).comparison
    assert not found.agrees and found.num_gap_bound_trials is not None and 20 <= found.num_gap_bound_trials <= 23
    # Rounding changes gaps by up to 1e-5 in this network.
    assert 1e-7 < found.gap_bound < 4e-5


def test_published_scores_are_compared(clips: list[Trial]) -> None:
    results = [result for result in Scorer(TINY).score_trials(clips) if result.score is not None]
    ids = np.array([result.trial.utterance_id for result in results], object)
    values = np.round([result.score for result in results], 6)
    published = Scores("scores.txt", ids, values)
    found = verify_scores(TINY, published, clips, resamples=0)
    assert found.comparison.agrees and found.skipped == {"empty": found.skipped["empty"]}
    values = values.copy()
    values[4] += 0.5
    fewer = Scores("scores.txt", ids[1:], values[1:])
    found = verify_scores(TINY, fewer, clips, gap_bound=0.0, resamples=0)
    assert list(found.comparison.utterance_ids[found.comparison.unexplained]) == [ids[4]]
    assert "no score in scores.txt" in found.skipped[ids[0]]


def test_a_sample_has_each_label_in_its_share() -> None:
    trials = [Trial(str(i), Path("x"), "spoof" if i % 10 else "bonafide") for i in range(1000)]
    drawn = sample(trials, 200, seed=0)
    assert len(drawn) == 200 and sum(int(name) % 10 == 0 for name in drawn) == 20
    assert drawn == sample(trials, 200, seed=0) != sample(trials, 200, seed=1)
    assert len(sample(trials, 5000, seed=0)) == 1000
    assert len(sample([*trials, Trial("rare", Path("x"))], 10, seed=0) & {"rare"}) == 1


def test_the_command_compares_and_writes(
    clips: list[Trial],
    correct_reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = Path(clips[0].path).parent / "trials.csv"
    asked = [
        "verify",
        manifest,
        "--model",
        TINY,
        "--against",
        f"torch:{correct_reference}",
        "--resamples",
        0,
        "--sample",
        4,
    ]
    assert spectra(monkeypatch, *asked) == 2
    assert "--run-reference-code" in capsys.readouterr().err
    assert spectra(monkeypatch, *asked, "--run-reference-code", "--precision", "float64", "--json") == 0
    assert json.loads(capsys.readouterr().out)["agrees"] is True
    written = tmp_path / "trials.csv"
    asked = [*asked, "--run-reference-code", "--output", written]
    assert spectra(monkeypatch, *asked) == 0
    rows = list(csv.DictReader(written.read_text().splitlines()))
    assert len(rows) == 4 - ("empty" in capsys.readouterr().err)
    assert all(abs(float(row["difference"])) < 1e-4 and float(row["smallest_rank_gap"]) > 0 for row in rows)
    for wrong in (["--against", "pickle:x"], ["--reported", "--against", "scores:x"], []):
        assert spectra(monkeypatch, "verify", manifest, *wrong) == 2
    assert spectra(monkeypatch, "verify", "--reported", "Nothing") == 2
    assert "nothing is reported for Nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_verify_names_the_first_stage_that_differs(
    clips: list[Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = write_reference(tmp_path / "wrong", "bridge.mlp.3.weight")
    manifest = Path(clips[0].path).parent / "trials.csv"
    asked = ["verify", manifest, "--model", TINY, "--against", f"torch:{wrong}", "--run-reference-code"]
    assert spectra(monkeypatch, *asked, "--gap-bound", 0) == 1
    shown = capsys.readouterr()
    assert (
        "The first stage that differs is bridge; everything compared before it, up to ssl.last_hidden_state"
        in shown.out
    )
    assert "skipped empty" in shown.err
