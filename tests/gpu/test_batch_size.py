"""The memory that batches take on the GPU, beside what the automatic batch size assumes."""

from __future__ import annotations

import json
import os
from concurrent.futures import Future
from pathlib import Path

import jax
import numpy as np
import pytest

from spectra_jax.checkpoints.load import abstract_inference_model
from spectra_jax.inference import compilation_cache
from spectra_jax.inference.batch_size import activation_bytes
from spectra_jax.inference.scorer import Scorer
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.functional import split
from spectra_jax.model.precision import Precision
from tests.conftest import golden_windows
from tests.gpu.conftest import Submit

pytestmark = pytest.mark.gpu

PRECISIONS = ["float32", "tf32", "bfloat16", "float16", "float64"]
BATCHES = [8, 64]
CONFIG = SpectraConfig()

Measured = dict[str, dict[int, int]]


def temporary_bytes(precision: str, batch: int) -> int:
    """What the published network's program takes besides its weights, its input and its output."""
    with jax.enable_x64(precision == "float64"), compilation_cache.disabled():
        forward, params, rest = split(fold_for_inference(abstract_inference_model(CONFIG, precision)))
        windows = jax.ShapeDtypeStruct((batch, CONFIG.num_samples), np.float32)
        analysis = jax.jit(forward).lower(params, rest, windows).compile().memory_analysis()
    assert analysis is not None
    return int(analysis.temp_size_in_bytes)


@pytest.fixture(scope="module")
def measured(background: Submit) -> Measured:
    """Temporary bytes by precision and batch, also written to `gpu_memory.json` in the directory `$OUT`."""
    futures: dict[tuple[str, int], Future[int]] = {
        (precision, batch): background(temporary_bytes, precision, batch)
        for precision in PRECISIONS
        for batch in BATCHES
    }
    found: Measured = {precision: {} for precision in PRECISIONS}
    for (precision, batch), future in futures.items():
        found[precision][batch] = future.result()
    report = {
        precision: {
            "assumed_bytes_per_clip": activation_bytes(CONFIG, Precision.of(precision)),
            "temporary_bytes": sizes,
            "bytes_per_clip": {batch: size / batch for batch, size in sizes.items()},
            "bytes_per_further_clip": (sizes[64] - sizes[8]) / 56,
        }
        for precision, sizes in found.items()
    }
    text = json.dumps({"device": jax.devices()[0].device_kind, "memory": report}, indent=1)
    print(text)
    if directory := os.environ.get("OUT"):
        (Path(directory) / "gpu_memory.json").write_text(text)
    return found


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_clip_takes_no_more_than_assumed(measured: Measured, precision: str, batch: int) -> None:
    assumed = activation_bytes(CONFIG, Precision.of(precision))
    taken = measured[precision][batch] / batch
    print(f"{precision}, batch {batch}: {taken / 1e6:.1f} MB a clip; {assumed / 1e6:.1f} MB assumed")
    assert taken <= assumed


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_automatic_batch_runs(full_pytorch_file: Path, precision: str) -> None:
    scorer = Scorer(full_pytorch_file, precision=precision, batch_size="auto")
    batch = scorer.batch_size
    print(f"{precision}: {batch} clips")
    assert batch & (batch - 1) == 0
    windows = golden_windows([{"seed": seed, "samples": 20000} for seed in range(4)])
    # More clips than one batch has.
    logits = scorer.logits(np.resize(windows, (batch + 4, CONFIG.num_samples)))
    assert np.isfinite(logits).all()
    # The same clips in another batch, most of which is padding.
    np.testing.assert_allclose(logits[-4:], logits[:4], atol=1e-4 if precision == "float32" else 0.5)
