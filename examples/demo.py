"""Score the example clips with the demo checkpoint and show each score beside the PyTorch reference's.

Run by `make demo`; needs nothing but the installed package.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import spectra_jax
from spectra_jax.trials import Trial

CLIPS = Path(__file__).parent / "clips"
# Largest difference that rounding explains. In float32 only where no ranking nearly ties: see README, "Limits".
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
RANK_GAP = 2e-5


def main() -> int:
    console = Console()
    with (CLIPS / "reference.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    reference = [float(row["reference_logit_bonafide"]) for row in rows]
    trials = [Trial(row["utterance_id"], CLIPS / row["path"]) for row in rows]
    scores = {}
    for precision in TOLERANCE:
        console.print(f"Compiling the network and scoring {len(trials)} clips in {precision} ...")
        scorer = spectra_jax.Scorer("demo", precision=precision, batch_size=len(trials))
        scores[precision] = [result.score for result in scorer.score_trials(trials)]

    table = Table(
        caption="score: higher = more bona fide (float32). reference: PyTorch, float64. "
        "f32 and f64 diff: the score in that precision minus the reference."
    )
    table.add_column("clip", no_wrap=True)
    table.add_column("label", no_wrap=True)
    for heading in ("score", "reference", "f32 diff", "f64 diff"):
        table.add_column(heading, justify="right", no_wrap=True)
    worst = dict.fromkeys(TOLERANCE, 0.0)
    for place, row in enumerate(rows):
        differences = {precision: scores[precision][place] - reference[place] for precision in TOLERANCE}
        for precision, difference in differences.items():
            if precision == "float64" or float(row["reference_rank_gap"]) > RANK_GAP:
                worst[precision] = max(worst[precision], abs(difference))
        table.add_row(
            row["utterance_id"],
            row["label"],
            f"{scores['float32'][place]:.6f}",
            f"{reference[place]:.6f}",
            *(f"{difference:.1e}" for difference in differences.values()),
        )
    console.print(table)
    near = sum(float(row["reference_rank_gap"]) <= RANK_GAP for row in rows)
    console.print(f"Largest difference in float64: {worst['float64']:.1e}, over all {len(rows)} clips.")
    console.print(
        f"Largest difference in float32: {worst['float32']:.1e}, over the {len(rows) - near} clips where no ranking "
        "inside the network nearly ties."
    )
    console.print("This checkpoint is untrained: the scores show that two programs agree, and detect nothing yet.")
    return int(any(worst[precision] > TOLERANCE[precision] for precision in TOLERANCE))


if __name__ == "__main__":
    sys.exit(main())
