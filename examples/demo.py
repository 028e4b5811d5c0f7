"""Score the example clips with the demo checkpoint and show each score beside the PyTorch reference's.

Run by `make demo`; needs nothing but the installed package, and the extra `report` for the page it makes at the end.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import spectra_jax
from spectra_jax.results import Result, write
from spectra_jax.trials import InputError, Trial

CLIPS = Path(__file__).parent / "clips"
REPORT = Path(__file__).parents[1] / "build" / "demo" / "report.html"
# Largest difference that rounding explains. In float32 only where no ranking nearly ties: see README, "Limits".
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
RANK_GAP = 2e-5


def main() -> int:
    console = Console()
    with (CLIPS / "reference.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    reference = [float(row["reference_logit_bonafide"]) for row in rows]
    trials = [Trial(row["utterance_id"], CLIPS / row["path"], row["label"]) for row in rows]
    results, scores = {}, {}
    for precision in TOLERANCE:
        console.print(f"Compiling the network and scoring {len(trials)} clips in {precision} ...")
        scorer = spectra_jax.Scorer("demo", precision=precision, batch_size=len(trials), diagnostics=True)
        results[precision] = list(scorer.score_trials(trials))
        scores[precision] = [result.score for result in results[precision]]

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
    console.print(report(results), soft_wrap=True)
    return int(any(worst[precision] > TOLERANCE[precision] for precision in TOLERANCE))


def report(results: dict[str, list[Result]]) -> str:
    """Write both precisions' scores and the page about them; where it is, or what it lacks."""
    from spectra_jax.report import write_report

    REPORT.parent.mkdir(parents=True, exist_ok=True)
    runs = [REPORT.with_name(f"{precision}.csv") for precision in results]
    for run, own in zip(runs, results.values(), strict=True):
        write(own, run)
    title = "The example clips by the demo checkpoint, which is untrained"
    try:
        write_report(runs, REPORT, audio_root=CLIPS, title=title)
    except InputError as error:
        return f"No report: {error}"
    return f"Report: {REPORT}"


if __name__ == "__main__":
    sys.exit(main())
