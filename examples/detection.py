"""How well the demo checkpoint tells real from synthetic speech, beside two controls, on the corpus' eval speakers.

    python -m examples.detection              # prints the tables of the README
    python -m examples.detection --json FILE  # and writes the figures

Needs scikit-learn (the extra `test` has it). No eval clip was used to choose or to train anything.
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

from examples.breakdown import CORPUS, GROUPS, Figure, Row, breakdown, rows_of, table
from examples.controls import score_by_lfcc_gmm, score_by_shortcuts
from spectra_jax import Scorer
from spectra_jax.data.trial import Trial
from spectra_jax.evaluation.metrics import bootstrap_difference, eer

PRECISIONS = ("float32", "bfloat16")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    console = Console()
    rows = rows_of("eval")
    scores = {precision: score(asked.model, rows, precision) for precision in PRECISIONS}
    systems = {asked.model: breakdown(rows, scores["float32"]), **controls(rows)}
    console.print(table(systems))
    rounded = {group: change(rows, attacks, scores) for group, attacks in GROUPS.items()}
    moved = np.abs(scores["bfloat16"] - scores["float32"])
    console.print(f"bfloat16: scores move by up to {moved.max():.4f}, by {moved.mean():.4f} on average. EERs:")
    for group, (before, after, low, high) in rounded.items():
        console.print(f"  {group}: {before:.3f} -> {after:.3f}, difference within [{low:+.3f}, {high:+.3f}]")
    if asked.json:
        asked.json.write_text(json.dumps(figures(systems, rounded, moved), indent=2) + "\n")
    return 0


def score(model: str, rows: list[Row], precision: str) -> np.ndarray:
    trials = [Trial(row["utterance_id"], CORPUS / row["path"]) for row in rows]
    results = list(Scorer(model, precision=precision).score_trials(trials))
    skipped = [f"{result.utterance_id}: {result.error}" for result in results if result.score is None]
    if skipped:
        raise SystemExit("clips that cannot be scored: " + "; ".join(skipped))
    return np.array([result.score for result in results])


def controls(rows: list[Row]) -> dict[str, dict[str, Figure]]:
    learnt = rows_of("train", "dev")
    train, clips = (
        [soundfile.read(CORPUS / row["path"], dtype="float32")[0] for row in some] for some in (learnt, rows)
    )
    bonafide = np.array([row["label"] == "bonafide" for row in learnt])
    return {
        "LFCC and GMM": breakdown(rows, score_by_lfcc_gmm(train, bonafide, clips)),
        "shortcuts": breakdown(rows, score_by_shortcuts(train, bonafide, clips)),
    }


def change(rows: list[Row], attacks: tuple[str, ...], scores: Mapping[str, np.ndarray]) -> tuple[float, ...]:
    """A group's EER in float32 and in bfloat16, and the interval of their difference, both on the same resamples."""
    chosen = np.array([row["label"] == "bonafide" or row["attack"] in attacks for row in rows])
    bonafide = np.array([row["label"] == "bonafide" for row in rows])[chosen]
    wide, narrow = (scores[precision][chosen] for precision in PRECISIONS)
    interval = bootstrap_difference(narrow, wide, bonafide, ("eer",))["eer"]
    rates = (eer(own[bonafide], own[~bonafide]).rate for own in (wide, narrow))
    return *rates, interval.low, interval.high


def figures(
    systems: Mapping[str, Mapping[str, Figure]], rounded: Mapping[str, tuple[float, ...]], moved: np.ndarray
) -> dict[str, Any]:
    packages = ("jax", "flax", "numpy", "scipy", "scikit-learn")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "systems": {
            system: {row: [value, interval.low, interval.high] for row, (value, interval) in found.items()}
            for system, found in systems.items()
        },
        "bfloat16": {
            "score_difference": {"max": float(moved.max()), "mean": float(moved.mean())},
            "eer": {
                group: dict(zip(("float32", "bfloat16", "low", "high"), own, strict=True))
                for group, own in rounded.items()
            },
        },
    }


if __name__ == "__main__":
    sys.exit(main())
