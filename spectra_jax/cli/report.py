"""`spectra-jax report`: everything that score files say, on one page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spectra_jax.cli.options import Common, Debug, GapBound, LabelsOption, Resamples, Seed, Tolerance, say


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Score files: .txt, .csv, .tsv, .jsonl or .parquet. The first is what the others are compared with.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="O", help="The page, .html.")],
    labels: LabelsOption = None,
    audio_root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the trials' audio is, by path or id. Otherwise paths in the score files are followed, if they "
            "lead below their folder or the current one.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="T", help="Of the page.")] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="M", help="A model's folder or weight file, whose sha256 the page states.")
    ] = None,
    tolerance: Tolerance = 1e-4,
    gap_bound: GapBound = 2e-5,
    common: Common = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """One self-contained page: curves, scores, attacks, calibration, comparison, parity, trials to hear, provenance.

    It fetches nothing, reads in light and dark, on a phone and on paper. Needs the extra `report`.
    """
    del debug  # acted on as it is read
    from spectra_jax.labels import read_labels
    from spectra_jax.report import write_report

    write_report(
        runs,
        output,
        labels=None if labels is None else read_labels(labels),
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
    say(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser")
