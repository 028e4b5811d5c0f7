"""Fixtures of the tests of verification."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from spectra_jax import hub
from spectra_jax.data.sources import collect
from spectra_jax.data.trial import Trial
from tests.golden import recipe
from tests.hub_stand_in import HubStandIn
from tests.verification.pytorch_reference import export, write_reference


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """Ten clips, one of them with a near tie in float32, and an empty file."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(1, 11):
        soundfile.write(folder / f"seed_{seed:02d}.wav", recipe.waveform(seed, 32300), 16000)
    (folder / "empty.wav").touch()
    rows = "".join(f"{p.name},{'bonafide' if i % 3 else 'spoof'}\n" for i, p in enumerate(sorted(folder.glob("*.wav"))))
    (folder / "trials.csv").write_text("path,label\n" + rows)
    return list(collect([folder / "trials.csv"]))


@pytest.fixture(scope="module")
def correct_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference(tmp_path_factory.mktemp("torch") / "reference")


@pytest.fixture(scope="module")
def exported(correct_reference: Path) -> Path:
    pytest.importorskip("onnxruntime", reason="needs the extra `verify` (onnx, onnxruntime)")
    return export(correct_reference)


@pytest.fixture
def stand_in(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn({"org/model": {"main": {hub.PUBLISHED_ONNX: b"onnx"}}}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running
