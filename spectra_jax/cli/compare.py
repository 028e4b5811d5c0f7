"""`spectra-jax compare`: are two systems' scores the same?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectra_jax.cli.options import (
    AsJson,
    Common,
    Debug,
    GapBound,
    LabelsOption,
    MatchOption,
    Resamples,
    Seed,
    Subset,
    Tolerance,
    read_tables,
)
from spectra_jax.cli.output import check_outputs, print_json, print_message, print_pooled_subsets, stdout


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A score file: .txt, .csv, .tsv, .jsonl or .parquet.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The score file to compare it with.")],
    labels: LabelsOption = None,
    subset: Subset = None,
    match: MatchOption = "exact",
    tolerance: Tolerance = 1e-4,
    gap_bound: GapBound = None,
    common: Common = False,
    worst: Annotated[int, typer.Option(metavar="N", min=0, max=10, help="How many trials to list.")] = 10,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="For the intervals, resample whole groups of a column of the labels."),
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option(metavar="F", help="Every trial's scores, difference and rank gap, as .csv.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare two systems' scores, trial by trial, with a verdict.

    Differences are explained where two nodes of the network's graph nearly tie, so that rounding decides the score,
    and where such differences are as rare as rounding makes them and have no common sign. With labels, EERs are
    compared too.

    Exit status: 0 the same, near ties apart; 1 different; 2 wrong usage.
    """
    from spectra_jax.evaluation.compare import compare
    from spectra_jax.reporting.comparison_table import print_comparison, write_comparison
    from spectra_jax.reporting.hints import comparison_hints

    check_outputs(output, extension=".csv")
    (one, other), known = read_tables([a, b], labels, match, subset, full_paths=True)
    found = compare(
        one,
        other,
        known,
        tolerance=tolerance,
        gap_bound=gap_bound,
        common=common,
        cluster=cluster,
        resamples=resamples,
        seed=seed,
    )
    if output is not None:
        write_comparison(found, output)
        print_message(f"{len(found.utterance_ids):,} trials -> {output}")
    print_pooled_subsets(
        "the labels" if labels is None else labels.name, {} if found.error_rates is None else found.error_rates.subsets
    )
    for hint in comparison_hints(found):
        print_message(hint)
    if as_json:
        print_json(found.to_dict())
    else:
        print_comparison(found, stdout(), worst)
    if not found.agrees:
        raise typer.Exit(1)
