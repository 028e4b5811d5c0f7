"""What the demo checkpoint can do, and that this package computes what the PyTorch reference computes.

Run by `make demo`; needs nothing but the installed package, and the extra `report` for the page it makes at the end.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import spectra_jax
from examples.breakdown import CORPUS, breakdown, rows_of, table
from spectra_jax.data.labels import read_labels
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.results import Result, write

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "build" / "demo" / "report.html"
# A small network with weights from a seeded recipe, scored by the reference: it detects nothing, but every part works.
GOLDEN = ROOT / "tests" / "golden" / "tiny"
# Largest difference that rounding explains. In float32 only where no ranking nearly ties: see README, "Limits".
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
RANK_GAP = 2e-5


def main() -> int:
    console = Console()
    rows = rows_of("eval")
    trials = [Trial(row["utterance_id"], CORPUS / row["path"], row["label"]) for row in rows]
    console.print(f"Compiling the demo network and scoring {len(trials)} clips of speakers that it never heard ...")
    results = list(spectra_jax.Scorer("demo", diagnostics=True).score_trials(trials))
    found = breakdown(rows, np.array([result.score for result in results], float))
    caption = "EER with its 95 % bootstrap interval; 0.50 is guessing."
    console.print(table({"demo checkpoint": found}, caption=caption))
    console.print(
        f"This is a demo: a small network that learnt from {len(rows_of('train'))} short clips of three speakers and "
        "some synthetic voices. It shows that training and scoring work. It is no detector for real use, and these "
        "figures say nothing about the published model.",
        soft_wrap=True,
    )
    console.print(report(results), soft_wrap=True)
    return parity(console)


def parity(console: Console) -> int:
    """Score twelve clips by the golden network and hold the scores against the reference's own; the exit status."""
    with (CORPUS / "reference.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    reference = np.array([float(row["reference_logit_bonafide"]) for row in rows])
    apart = np.array([float(row["reference_rank_gap"]) > RANK_GAP for row in rows])
    trials = [Trial(row["utterance_id"], CORPUS / row["path"], row["label"]) for row in rows]
    status = 0
    for precision, tolerance in TOLERANCE.items():
        console.print(f"Compiling the golden network in {precision} and scoring {len(trials)} clips ...")
        scorer = spectra_jax.Scorer(GOLDEN, precision=precision, batch_size=len(trials))
        scores = np.array([result.score for result in scorer.score_trials(trials)], float)
        counted = apart if precision == "float32" else np.ones_like(apart)
        worst = float(np.abs(scores - reference)[counted].max())
        status |= not worst <= tolerance
        where = "" if counted.all() else ", those where no ranking inside the network nearly ties"
        console.print(
            f"Parity with the PyTorch reference in {precision}: largest difference {worst:.1e} over {counted.sum()} "
            f"clips{where}.",
            soft_wrap=True,
        )
    return status


def report(results: list[Result]) -> str:
    """Write the scores and the page about them; where it is, or what it lacks."""
    from spectra_jax.reporting.page import write_report

    REPORT.parent.mkdir(parents=True, exist_ok=True)
    scores = REPORT.with_name("demo.csv")
    write(results, scores)
    title = "The example corpus' eval speakers by the demo checkpoint: a demo, no detector for real use"
    try:
        labels = read_labels(CORPUS / "manifest.csv")
        write_report([scores], REPORT, labels=labels, common=True, audio_root=CORPUS, title=title)
    except InputError as error:
        return f"No report: {error}"
    return f"Report: {REPORT}"


if __name__ == "__main__":
    sys.exit(main())
