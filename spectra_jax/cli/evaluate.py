"""`spectra-jax evaluate`: how good scores are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spectra_jax.cli.options import AsJson, Common, Debug, LabelsOption, Resamples, Seed, say, stdout


def evaluate(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="A score file: .txt (the Arena's), .csv, .tsv, .jsonl or .parquet.")
    ],
    labels: LabelsOption = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Figures for each value of a column too, such as attack. May be repeated."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Draw whole groups of a column for the intervals, such as speaker."),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(metavar="T", help="Error rates where scores from T on are taken for bona fide. May be repeated."),
    ] = None,
    costs: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="PRIOR MISS FA", help="Of the DCF: prior of a spoof, cost of a miss, of a false alarm."),
    ] = (0.05, 1.0, 10.0),
    exact: Annotated[
        bool, typer.Option("--exact", help="Take scores as they are, not rounded to six decimals like the Arena.")
    ] = False,
    common: Common = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    plot: Annotated[
        Path | None, typer.Option(metavar="F", help="Draw the DET curve: .png, .svg or .pdf (extra `report`).")
    ] = None,
    result: Annotated[
        Path | None, typer.Option(metavar="F", help="Write the Arena's result.yaml too; needs the next three.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="ID", help="The dataset on the Hub, org/name.")] = None,
    system: Annotated[str | None, typer.Option(metavar="NAME", help="What the system is called.")] = None,
    slug: Annotated[str | None, typer.Option(metavar="SLUG", help="Its short name: a-z, 0-9 and hyphens.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """EER and its relatives, with intervals.

    Labels come from a manifest, the Arena's labels.parquet (0 = bona fide, 1 = spoof), an ASVspoof protocol (2019, 2021
    LA and DF, 5), or the score file's own column `label`.
    """
    del debug  # acted on as it is read
    from spectra_jax import evaluation
    from spectra_jax.labels import read_labels
    from spectra_jax.metrics import Costs
    from spectra_jax.score_file import read_scores

    if result is not None and (labels is None or dataset is None or system is None or slug is None):
        raise typer.BadParameter("--result needs --labels, --dataset, --system and --slug as well.")
    known = None if labels is None else read_labels(labels)
    found = evaluation.evaluate(
        read_scores(scores),
        known,
        exact=exact,
        common=common,
        by=by or (),
        cluster=cluster,
        resamples=resamples,
        seed=seed,
        costs=Costs(*costs),
        thresholds=threshold or (),
    )
    if plot is not None:
        from spectra_jax.report.papers import plot_det

        plot_det([found], plot)
        say(f"DET curve -> {plot}")
    if result is not None and known is not None:
        from spectra_jax.arena import result as arena

        content = arena.result(scores, known, str(dataset), system={"name": system, "slug": slug})
        arena.write(content, result)
        say(f"the Arena's result -> {result}")
    if as_json:
        typer.echo(json.dumps(found.numbers, indent=1, ensure_ascii=False, allow_nan=False))
    else:
        evaluation.table(found, stdout())
