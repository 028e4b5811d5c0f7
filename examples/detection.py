"""Evaluate the demo checkpoint and two controls on the corpus' eval speakers.

    python -m examples.detection              # prints the tables of docs/reports/demo-checkpoint.md
    python -m examples.detection --json FILE  # also writes the figures

Needs scikit-learn, which the extra `test` has. No eval clip was used to choose or to train anything.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console

from examples.breakdown import CORPUS, GROUPS, Figure, Row, breakdown, make_table, read_rows
from examples.controls import score_by_lfcc_gmm, score_by_shortcuts
from spectra_jax import Scorer
from spectra_jax.data.trial import Trial
from spectra_jax.evaluation.metrics import bootstrap_difference, eer

PRECISIONS = ("float32", "bfloat16")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    console = Console()
    rows = read_rows("eval")
    scores = {precision: score_rows(arguments.model, rows, precision) for precision in PRECISIONS}
    systems = {arguments.model: breakdown(rows, scores["float32"]), **evaluate_controls(rows)}
    console.print(make_table(systems))
    changes = {group: eer_change(rows, attacks, scores) for group, attacks in GROUPS.items()}
    differences = np.abs(scores["bfloat16"] - scores["float32"])
    console.print(
        f"bfloat16: scores change by up to {differences.max():.4f}, on average {differences.mean():.4f}. EERs:"
    )
    for group, (before, after, low, high) in changes.items():
        console.print(f"  {group}: {before:.3f} -> {after:.3f}, difference within [{low:+.3f}, {high:+.3f}]")
    if arguments.json:
        arguments.json.write_text(json.dumps(collect(systems, changes, differences), indent=2) + "\n")
    return 0


def score_rows(model: str, rows: list[Row], precision: str) -> np.ndarray:
    trials = [Trial(row["utterance_id"], CORPUS / row["path"]) for row in rows]
    results = list(Scorer(model, precision=precision).score_trials(trials))
    skipped = [f"{result.trial.utterance_id}: {result.error}" for result in results if result.score is None]
    if skipped:
        raise SystemExit("clips that cannot be scored: " + "; ".join(skipped))
    return np.array([result.score for result in results])


def evaluate_controls(rows: list[Row]) -> dict[str, dict[str, Figure]]:
    train_rows = read_rows("train", "dev")
    train, clips = (
        [soundfile.read(CORPUS / row["path"], dtype="float32")[0] for row in part] for part in (train_rows, rows)
    )
    bonafide = np.array([row["label"] == "bonafide" for row in train_rows])
    return {
        "LFCC and GMM": breakdown(rows, score_by_lfcc_gmm(train, bonafide, clips)),
        "shortcuts": breakdown(rows, score_by_shortcuts(train, bonafide, clips)),
    }


def eer_change(rows: list[Row], attacks: tuple[str, ...], scores: Mapping[str, np.ndarray]) -> tuple[float, ...]:
    """A group's EER in float32 and in bfloat16, and the interval of their difference, both on the same resamples."""
    in_group = np.array([row["label"] == "bonafide" or row["attack"] in attacks for row in rows])
    bonafide = np.array([row["label"] == "bonafide" for row in rows])[in_group]
    float32, bfloat16 = (scores[precision][in_group] for precision in PRECISIONS)
    interval = bootstrap_difference(bfloat16, float32, bonafide, ("eer",))["eer"]
    rates = (eer(group[bonafide], group[~bonafide]).rate for group in (float32, bfloat16))
    return *rates, interval.low, interval.high


def collect(
    systems: Mapping[str, Mapping[str, Figure]], changes: Mapping[str, tuple[float, ...]], differences: np.ndarray
) -> dict[str, Any]:
    """All figures, for a JSON file."""
    packages = ("jax", "flax", "numpy", "scipy", "scikit-learn")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "systems": {
            system: {row: [value, interval.low, interval.high] for row, (value, interval) in figures.items()}
            for system, figures in systems.items()
        },
        "bfloat16": {
            "score_difference": {"max": float(differences.max()), "mean": float(differences.mean())},
            "eer": {
                group: dict(zip(("float32", "bfloat16", "low", "high"), change, strict=True))
                for group, change in changes.items()
            },
        },
    }


if __name__ == "__main__":
    sys.exit(main())
