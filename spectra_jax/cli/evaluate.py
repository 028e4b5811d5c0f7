"""`spectra-jax evaluate`: EER, DCF, Cllr and AUC of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectra_jax.cli.options import (
    AsJson,
    Common,
    Debug,
    LabelsOption,
    MatchOption,
    Resamples,
    Seed,
    Subset,
    read_tables,
)
from spectra_jax.cli.output import check_outputs, print_json, print_message, print_pooled_subsets, stdout


def evaluate(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="A score file: .txt (the Arena's), .csv, .tsv, .jsonl or .parquet.")
    ],
    labels: LabelsOption = None,
    subset: Subset = None,
    match: MatchOption = "exact",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Also give figures for each value of a column, such as attack. May be repeated."
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="For the intervals, resample whole groups of a column, such as speaker."),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            metavar="T",
            help="Also give error rates at the threshold T: scores of T and above count as bona fide. May be repeated.",
        ),
    ] = None,
    costs: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="P M F", help="Of the DCF: prior of a spoof, cost of a miss, cost of a false alarm."),
    ] = (0.05, 1.0, 10.0),
    exact: Annotated[
        bool, typer.Option("--exact", help="Take scores as they are, not rounded to six decimals as the Arena does.")
    ] = False,
    common: Common = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    plot: Annotated[
        Path | None, typer.Option(metavar="F", help="Draw the DET curve: .png, .svg or .pdf (extra `report`).")
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option(metavar="F", help="Write the Arena's result.yaml too; needs --dataset, --system and --slug."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="ID", help="The dataset on the Hub, org/name, for --result.")
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="NAME", help="The system's name, for --result.")] = None,
    slug: Annotated[
        str | None, typer.Option(metavar="SLUG", help="The system's short name, for --result: a-z, 0-9 and hyphens.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Evaluate scores: EER, DCF, Cllr and AUC, with intervals.

    Labels come from a table with a column `label`, the Arena's labels.parquet (0 = bona fide, 1 = spoof), a list as
    ASVspoof (2015 to 5) and ADD publish them, or the score file's own column `label`.
    """
    from spectra_jax.evaluation.evaluate import evaluate
    from spectra_jax.evaluation.metrics import Costs
    from spectra_jax.reporting.evaluation_table import print_evaluation
    from spectra_jax.reporting.hints import evaluation_hints

    if result is not None and (labels is None or dataset is None or system is None or slug is None):
        raise typer.BadParameter("--result needs --labels, --dataset, --system and --slug as well.")
    if result is not None and (subset is not None or match != "exact"):
        raise typer.BadParameter("--result describes the complete score file: leave out --subset and --match.")
    if plot is not None:
        from spectra_jax.reporting.papers import require_figure

        require_figure(plot)
    check_outputs(plot, result)
    (system_scores,), known = read_tables([scores], labels, match, subset)
    found = evaluate(
        system_scores,
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
    print_pooled_subsets(found.labels_name, found.subsets)
    for hint in evaluation_hints(found):
        print_message(hint)
    if plot is not None:
        from spectra_jax.reporting.papers import plot_det

        plot_det([found], plot)
        print_message(f"DET curve -> {plot}")
    if result is not None and known is not None:
        from spectra_jax.arena.result import System, make_result, write_result

        write_result(make_result(scores, known, str(dataset), system=System(str(system), str(slug))), result)
        print_message(f"the Arena's result -> {result}")
    if as_json:
        print_json(found.to_dict())
    else:
        print_evaluation(found, stdout())
