"""Small runs: configurations, corpora, and what a run leaves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.training import RunConfig, StepEvent

# As small as the architecture goes: most of a test's time is compiling it.


MODEL = {
    "num_samples": 4000,
    "encoder": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [16, 16],
        "conv_kernel": [64, 8],
        "conv_stride": [32, 4],
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
    "bridge_dim": 12,
    "residual_channels": [[1, 8]],
    "gat_dims": [8, 6],
    "max_frames": 40,
    "kan": {"grid_size": 4, "spline_order": 3},
}


TRAINING: dict[str, Any] = {
    "steps": 6,
    "batch_size": 8,
    "warmup_steps": 0,
    "evaluate_every": 2,
    "learning_rate": 3e-3,
    "encoder_learning_rate": 3e-3,
}


def config(back_end: str = "kan-aasist", **training: Any) -> RunConfig:
    """A small network with this back-end (`pool+linear` compiles much faster), and options of the training."""
    return RunConfig.from_dict({"model": MODEL | {"back_end": back_end}, "training": TRAINING | training})


def write_corpus(folder: Path, *, train: int = 8, dev: int = 6, tone: bool = True, seed: int = 0) -> Path:
    """A manifest and its clips: noise, with a tone in the spoofs; without `tone`, both classes sound alike."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for split, number in (("train", train), ("dev", dev)):
        for label in ("bonafide", "spoof"):
            for index in range(number):
                samples = 0.1 * rng.standard_normal(5000)
                if tone and label == "spoof":
                    samples += 0.3 * np.sin(np.arange(5000) * rng.uniform(0.5, 0.6))
                name = f"{split}_{label}_{index}"
                soundfile.write(folder / f"{name}.wav", samples.astype(np.float32), 16_000, subtype="FLOAT")
                pair = f"{split}_bonafide_{index}" if label == "spoof" and index % 2 else ""
                rows.append({"path": f"{name}.wav", "label": label, "split": split, "pair": pair, "extra": "x"})
    return write_manifest(folder / "manifest.csv", rows)


def write_manifest(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        return [row | {"path": str(manifest.parent / row["path"])} for row in csv.DictReader(file)]


def without_speed(events: Sequence[Any]) -> list[Any]:
    """The events without their speed."""
    return [replace(event, clips_per_second=0.0) if isinstance(event, StepEvent) else event for event in events]


def weights_of(directory: Path) -> dict[str, np.ndarray]:
    return dict(open_checkpoint(directory))
