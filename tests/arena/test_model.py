"""The Arena's model interface."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from spectra_jax import hub
from spectra_jax.arena import SpectraAASIST3
from spectra_jax.errors import AudioError
from tests.golden import recipe
from tests.tolerances import LOGITS


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> SpectraAASIST3:
    monkeypatch.setenv("SPECTRA_JAX_MODEL", "demo")
    monkeypatch.setenv("SPECTRA_JAX_BATCH_SIZE", "3")
    return SpectraAASIST3()


def test_the_model_interface(demo: SpectraAASIST3) -> None:
    assert (demo.expected_sample_rate, demo.batch_size, demo.name) == (16000, 3, "demo (spectra-jax)")
    demo.load()
    clips = [recipe.waveform(seed, 9000 + seed).astype(np.float32) / 32768 for seed in range(3)]
    scores = demo.score_batch(clips, [16000] * 3)
    assert all(isinstance(score, float) for score in scores) and len(set(scores)) == 3
    for k in (1, 2):
        np.testing.assert_allclose(demo.score_batch(clips[:k], [16000] * k), scores[:k], atol=LOGITS["float32"])
    with pytest.raises(AudioError, match="clip 1 of the batch"):
        demo.score_batch([clips[0], np.full(900, np.nan, np.float32)], [16000] * 2)
    demo.unload()
    np.testing.assert_allclose(demo.score_batch(clips, [16000] * 3), scores, atol=LOGITS["float32"])


def test_a_model_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SpectraAASIST3().name == "Spectra-AASIST3 (spectra-jax)"
    monkeypatch.setenv("SPECTRA_JAX_MODEL", str(tmp_path / "tuned"))
    (tmp_path / "tuned").mkdir()
    assert SpectraAASIST3().name == "tuned (spectra-jax)"

    class Mine(SpectraAASIST3):
        name = "Mine"

    assert Mine().name == "Mine"


def test_configured_by_class_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(SpectraAASIST3):
        model = "mine"
        batch_size = 24
        certify = True

    assert (Mine().model, Mine().batch_size, Mine().certify, Mine().precision) == ("mine", 24, True, "float32")
    monkeypatch.setenv("SPECTRA_JAX_PRECISION", "bfloat16")
    monkeypatch.setenv("SPECTRA_JAX_CERTIFY", "0")
    assert (Mine().precision, Mine().certify) == ("bfloat16", False)
    monkeypatch.setenv("SPECTRA_JAX_BATCH_SIZE", "many")
    with pytest.raises(ValueError, match="SPECTRA_JAX_BATCH_SIZE='many'"):
        Mine()
    assert SpectraAASIST3.model == hub.PUBLISHED


def test_it_subclasses_the_tools_base_class_if_the_tool_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = types.ModuleType("speech_spoof_bench"), types.ModuleType("speech_spoof_bench.model")

    class AntiSpoofingModel:
        pass

    module.AntiSpoofingModel = AntiSpoofingModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "speech_spoof_bench", package)
    monkeypatch.setitem(sys.modules, "speech_spoof_bench.model", module)
    for name in ("spectra_jax.arena", "spectra_jax.arena.model"):
        monkeypatch.delitem(sys.modules, name)
    again = importlib.import_module("spectra_jax.arena")
    assert issubclass(again.SpectraAASIST3, AntiSpoofingModel)
    assert not issubclass(SpectraAASIST3, AntiSpoofingModel)
