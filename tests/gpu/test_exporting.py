"""Exported programs run on the GPU where the package is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import spectra_jax
from spectra_jax.inference.scorer import Scorer
from tests.conftest import GOLDEN, golden_windows
from tests.tolerances import LOGITS, RANK_GAP

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("annotations_unchecked")]

PROGRAM = Path(__file__).parents[1] / "programs" / "run_exported.py"
PLATFORMS = {"cuda": ("cuda",), "both": ("cpu", "cuda")}


def test_exported_programs_give_the_same_logits(tmp_path: Path, cpu: jax.Device) -> None:
    pytest.importorskip("flatbuffers")
    model = spectra_jax.load(GOLDEN / "tiny")
    for name, platforms in PLATFORMS.items():
        spectra_jax.export(model, tmp_path / name, platforms=platforms)
    windows = golden_windows([{"seed": seed, "samples": 20000} for seed in range(8)])
    exact = Scorer(GOLDEN / "tiny", precision="float64", devices=[cpu], diagnostics=True).diagnosed(windows)
    # Rounding may rank the nodes of the others in another way.
    comparable = exact[:, 2:].min(axis=1) > RANK_GAP
    assert comparable.sum() >= 2
    windows, logits = windows[comparable], exact[comparable, :2]
    found = run_exported(tmp_path, {f"{name}/windows": windows for name in PLATFORMS}, {})
    on_cpu = run_exported(tmp_path, {"both/windows": windows}, {"JAX_PLATFORMS": "cpu"})
    for outputs in (found["cuda/windows"], found["both/windows"], on_cpu["both/windows"]):
        np.testing.assert_allclose(outputs, logits, rtol=0, atol=LOGITS["float32"])
    assert not np.array_equal(found["both/windows"], on_cpu["both/windows"]), "both ran on the same device"


def test_an_exported_bfloat16_encoder_runs(tmp_path: Path) -> None:
    """Without cuDNN's attention, for which JAX promises no stable call."""
    pytest.importorskip("flatbuffers")
    encoder = spectra_jax.load(GOLDEN / "tiny", "bfloat16").encoder
    spectra_jax.export(encoder, tmp_path / "encoder", batch=2, num_samples=16000, platforms=("cuda",))
    windows = golden_windows([{"seed": seed, "samples": 20000} for seed in range(2)])[:, :16000]
    found = run_exported(tmp_path, {"encoder/windows": windows}, {})["encoder/windows"]
    wanted = np.asarray(jax.jit(lambda x: encoder(x))(windows))
    # Both round to bfloat16, at different steps of the attention.
    assert np.sqrt(np.mean((found - wanted) ** 2)) <= 0.03 * np.sqrt(np.mean(wanted**2))


def run_exported(directory: Path, windows: dict[str, np.ndarray], environment: dict[str, str]) -> dict[str, np.ndarray]:
    np.savez(directory / "windows.npz", **windows)  # type: ignore[arg-type]
    # This process has reserved most of the GPU's memory.
    environment = os.environ | {"PYTHONPATH": "", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | environment
    run = subprocess.run([sys.executable, PROGRAM, directory], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with np.load(directory / "outputs.npz") as outputs:
        return dict(outputs)
