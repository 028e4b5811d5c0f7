"""Evaluate the demo checkpoint, and compare this package's scores with the PyTorch reference's.

Run by `make demo`. The HTML report needs the extra `report`.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import spectra_jax
from examples.breakdown import CORPUS, breakdown, make_table, read_rows
from spectra_jax.data.labels import read_labels
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.results import Result, write
from spectra_jax.model.rank_gap import GAP_BOUND

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "build" / "demo" / "report.html"
# A small network with seeded random weights, and the reference's scores of it: it detects nothing, but uses every part.
GOLDEN = ROOT / "tests" / "golden" / "tiny"
# Largest difference that rounding explains; in float32, of trials without a near tie: see docs/concepts/near-ties.md.
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def main() -> int:
    console = Console()
    rows = read_rows("eval")
    trials = [make_trial(row) for row in rows]
    console.print(
        f"Compiling the demo network and scoring {len(trials)} clips of speakers that it was not trained on ..."
    )
    results = list(spectra_jax.Scorer("demo", diagnostics=True).score_trials(trials))
    figures = breakdown(rows, np.array([result.score for result in results], float))
    caption = "EER with its 95 % bootstrap interval; 0.50 is guessing."
    console.print(make_table({"demo checkpoint": figures}, caption=caption))
    console.print(
        f"This is a demo: a small network, trained on {len(read_rows('train'))} short clips of three speakers and some "
        "synthetic voices. It shows that training and scoring work. It is not a detector for real use, and these "
        "figures do not describe the published model.",
        soft_wrap=True,
    )
    console.print(write_page(results), soft_wrap=True)
    return compare_with_reference(console)


def make_trial(row: dict[str, str]) -> Trial:
    return Trial(row["utterance_id"], CORPUS / row["path"], "bonafide" if row["label"] == "bonafide" else "spoof")


def compare_with_reference(console: Console) -> int:
    """Score twelve clips with the golden network and compare with the reference's scores; returns the exit status."""
    with (CORPUS / "reference.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    reference = np.array([float(row["reference_logit_bonafide"]) for row in rows])
    no_near_tie = np.array([float(row["reference_rank_gap"]) > GAP_BOUND for row in rows])
    trials = [make_trial(row) for row in rows]
    status = 0
    for precision, tolerance in TOLERANCE.items():
        console.print(f"Compiling the golden network in {precision} and scoring {len(trials)} clips ...")
        scorer = spectra_jax.Scorer(GOLDEN, precision=precision, batch_size=len(trials))
        scores = np.array([result.score for result in scorer.score_trials(trials)], float)
        compared = no_near_tie if precision == "float32" else np.ones_like(no_near_tie)
        largest = float(np.abs(scores - reference)[compared].max())
        status |= not largest <= tolerance
        which = "" if compared.all() else " without a near tie"
        console.print(
            f"Parity with the PyTorch reference in {precision}: largest difference {largest:.1e} over "
            f"{compared.sum()} clips{which}.",
            soft_wrap=True,
        )
    return status


def write_page(results: list[Result]) -> str:
    """Write the scores and an HTML report about them. Returns where the report is, or why there is none."""
    from spectra_jax.reporting.page import write_report

    REPORT.parent.mkdir(parents=True, exist_ok=True)
    scores = REPORT.with_name("demo.csv")
    write(results, scores)
    title = "The demo checkpoint on the example corpus' eval speakers: a demo, not a detector for real use"
    try:
        labels = read_labels(CORPUS / "manifest.csv")
        write_report([scores], REPORT, labels=labels, common=True, audio_root=CORPUS, model="demo", title=title)
    except InputError as error:
        return f"No report: {error}"
    return f"Report: {REPORT}"


if __name__ == "__main__":
    sys.exit(main())
