"""`spectra-jax compare`: are two systems' scores the same?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spectra_jax.cli.options import AsJson, Common, Debug, GapBound, LabelsOption, Resamples, Seed, Tolerance, stdout


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A score file: .txt, .csv, .tsv, .jsonl or .parquet.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    labels: LabelsOption = None,
    tolerance: Tolerance = 1e-4,
    gap_bound: GapBound = 2e-5,
    common: Common = False,
    worst: Annotated[int, typer.Option(metavar="N", min=0, max=10, help="How many trials to list.")] = 10,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Draw whole groups of a column of the labels for the intervals."),
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option(metavar="F", help="Every trial's scores, difference and rank gap, as .csv.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Differences, what near ties in the network's rankings explain of them, EERs, and a verdict.

    Exit status: 0 the same, near ties apart; 1 different; 2 wrong usage.
    """
    del debug  # acted on as it is read
    from spectra_jax import comparison
    from spectra_jax.labels import read_labels
    from spectra_jax.score_file import read_scores

    found = comparison.compare(
        read_scores(a, str(a)),
        read_scores(b, str(b)),
        None if labels is None else read_labels(labels),
        tolerance=tolerance,
        gap_bound=gap_bound,
        common=common,
        cluster=cluster,
        resamples=resamples,
        seed=seed,
    )
    if output is not None:
        comparison.write(found, output)
    if as_json:
        typer.echo(json.dumps(found.numbers, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        comparison.table(found, stdout(), worst)
    if not found.agrees:
        raise typer.Exit(1)
