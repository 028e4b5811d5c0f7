"""`spectra-jax report`: an HTML page about score files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spectra_jax.cli.options import (
    Common,
    Debug,
    GapBound,
    LabelsOption,
    MatchOption,
    Resamples,
    Seed,
    Subset,
    Tolerance,
)
from spectra_jax.cli.output import check_outputs, print_message, print_pooled_subsets


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Score files: .txt, .csv, .tsv, .jsonl or .parquet. The first is what the others are compared with.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="O", help="The page to write, .html.")],
    labels: LabelsOption = None,
    subset: Subset = None,
    match: MatchOption = "exact",
    audio_root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the trials' audio is, by path or id. Otherwise paths in the score files are followed, if they "
            "lead below their folder or the current one.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="T", help="The title of the page.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="M", help="A model's folder or weight file, or `demo`, whose sha256 the page states."),
    ] = None,
    tolerance: Tolerance = 1e-4,
    gap_bound: GapBound = None,
    common: Common = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Write an HTML page about score files, with curves and clips.

    It has error rates, scores, attacks, calibration, comparison, near ties, trials to listen to, and provenance. The
    page is one file that fetches nothing. Needs the extra `report`.
    """
    from spectra_jax.data.labels import read_labels
    from spectra_jax.reporting.page import write_report

    check_outputs(output)
    subsets = write_report(
        runs,
        output,
        labels=None if labels is None else read_labels(labels, match=match),
        match=match,
        subset=subset,
        audio_root=audio_root,
        model=model,
        title=title,
        command=["spectra-jax", *sys.argv[1:]],
        common=common,
        tolerance=tolerance,
        gap_bound=gap_bound,
        resamples=resamples,
        seed=seed,
    )
    print_pooled_subsets("the labels" if labels is None else labels.name, subsets)
    print_message(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser")
