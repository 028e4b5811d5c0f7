"""Score the trials of `tests.model.test_near_ties` on one and four devices, and write logits and rank gaps.

    python -m tests.programs.near_ties OUTPUT.npz

In float64; in float32 with batches of 1, 3 and 8; and certified, with the same batches and devices.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import numpy as np

from spectra_jax.inference.scorer import Scorer
from tests.conftest import GOLDEN, golden_windows

NEAR_TIES = json.loads((GOLDEN / "near_ties.json").read_text())["trials"]
SEEDS = list(dict.fromkeys([*(trial["seed"] for trial in NEAR_TIES), *range(78)]))
SAMPLES = 32300  # as in near_ties.json


def main() -> None:
    windows = golden_windows([{"seed": seed, "samples": SAMPLES} for seed in SEEDS])
    devices = jax.devices()

    def diagnosed(**options: Any) -> np.ndarray:
        return Scorer(GOLDEN / "tiny", **options).diagnosed(windows)

    outputs: dict[str, Any] = {"float64": diagnosed(precision="float64", devices=devices[:1], diagnostics=True)}
    for batch_size, number in ((1, 1), (3, 1), (8, 1), (8, 4)):
        options: dict[str, Any] = {"batch_size": batch_size, "devices": devices[:number]}
        outputs[f"float32 {batch_size} {number}"] = diagnosed(diagnostics=True, **options)
        outputs[f"certified {batch_size} {number}"] = diagnosed(certify=True, **options)
    np.savez(sys.argv[1], **outputs)


if __name__ == "__main__":
    main()
