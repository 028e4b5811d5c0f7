"""`spectra-jax verify`: does our network agree with a reference, and do the reported EERs hold?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spectra_jax.cli.options import AsJson, Debug, GapBound, Model, Resamples, Seed, Tolerance
from spectra_jax.cli.output import check_outputs, print_json, print_message, print_notes, stdout
from spectra_jax.hub import PUBLISHED
from spectra_jax.messages import printable

if TYPE_CHECKING:
    from spectra_jax.verification import Divergence, Reference


def verify(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="What `score` takes: clips, manifests, datasets.", show_default=False),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="REFERENCE",
            help="onnx:FILE or onnx:HUBID, an ONNX export; torch:DIR, a PyTorch module (reference.py with "
            "build(config), config.json, model.safetensors); scores:FILE, published scores.",
        ),
    ] = None,
    reported: Annotated[
        bool,
        typer.Option(
            "--reported",
            help="Recompute the EERs that the authors report, from their published scores; INPUT names datasets.",
        ),
    ] = False,
    model: Model = PUBLISHED,
    precision: Annotated[Literal["float32", "float64"], typer.Option(help="What our network computes in.")] = "float32",
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Verify N trials only, drawn from each label in proportion.")
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Clips at a time.")] = 8,
    tolerance: Tolerance = 1e-4,
    gap_bound: GapBound = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    run_reference_code: Annotated[
        bool,
        typer.Option(
            "--run-reference-code",
            help="Run the Python code of torch:DIR, with all that your account may do. Read it first.",
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="F", help="Every trial's scores, difference and rank gap, as .csv.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare our network with a reference, on the same windows.

    Where they differ, the first stage that differs is named. A difference at a near tie is explained only if the
    reference's score is ours with the tied nodes swapped. Exit status: 0 the same, near ties apart; 1 different; 2
    wrong usage, or nothing could be compared.
    """
    if reported == (against is not None):
        raise typer.BadParameter("Give either --against REFERENCE or --reported.")
    if reported:
        _verify_reported(inputs or [], as_json)
        return
    kind, _, target = str(against).partition(":")
    if kind not in ("onnx", "torch", "scores") or not target:
        raise typer.BadParameter(f"{against!r} is not one of onnx:FILE, onnx:HUBID, torch:DIR and scores:FILE.")

    from spectra_jax import verification
    from spectra_jax.data import sources
    from spectra_jax.data.score_files import read_scores
    from spectra_jax.reporting.comparison_table import print_comparison, write_comparison

    check_outputs(output, extension=".csv")
    listed = sources.collect(inputs or [])
    print_notes(listed)
    how: dict[str, Any] = {
        "only": None if sample is None else verification.sample(listed.without_content(), sample, seed),
        "precision": precision,
        "batch_size": batch_size,
        "tolerance": tolerance,
        "gap_bound": gap_bound,
        "resamples": resamples,
        "seed": seed,
    }
    if kind == "scores":
        found = verification.verify_scores(model, read_scores(target), listed, **how)
    else:
        reference = _open_reference(kind, target, run_code=run_reference_code, float64=precision == "float64")
        found = verification.verify(model, reference, listed, **how)
    if output is not None:
        write_comparison(found.comparison, output)
        print_message(f"{len(found.comparison.utterance_ids):,} trials -> {output}")
    if as_json:
        print_json(found.to_dict())
    else:
        print_comparison(found.comparison, stdout())
        if found.divergence is not None:
            _show(found.divergence)
    for name, reason in found.skipped.items():
        print_message(f"skipped {printable(name)}: {printable(reason)}")
    if not found.comparison.agrees or listed.skipped_inputs.unreadable:
        raise typer.Exit(1)


def _open_reference(kind: str, target: str, *, run_code: bool, float64: bool) -> Reference:
    from spectra_jax import verification

    if kind == "onnx":
        return verification.OnnxReference(verification.reference_file(target))
    return verification.TorchReference(Path(target), run_code=run_code, float64=float64)


def _to_dict(divergence: Divergence) -> dict[str, Any]:
    return {
        "first": divergence.first,
        "trials": list(divergence.trials),
        # The error of stages of different shapes is infinite, which JSON lacks.
        "stages": {stage.name: min(stage.error, 1e308) for stage in divergence.stages},
    }


def _show(divergence: Divergence) -> None:
    from spectra_jax.reporting.console import Column, print_table

    if not divergence.stages or [stage.name for stage in divergence.stages] == ["logits"]:
        stdout().print("The first stage that differs is unknown: the reference names none of its stages.")
        return
    rows = [(stage.name, f"{stage.error:.1e}", "differs" if stage.diverges else "") for stage in divergence.stages]
    columns = (Column("stage", "text"), Column("rms difference / rms", "number"), Column(""))
    print_table(stdout(), columns, rows, title="stage by stage, on " + ", ".join(divergence.trials))
    if divergence.first is None:
        stdout().print("No stage differs on these clips.")
        return
    names = [stage.name for stage in divergence.stages]
    before = names[: names.index(divergence.first)]
    stdout().print(
        f"The first stage that differs is {divergence.first}"
        + (f"; everything compared before it, up to {before[-1]}, is the same." if before else ".")
    )


def _verify_reported(names: list[str], as_json: bool) -> None:
    from dataclasses import asdict

    from rich.text import Text

    from spectra_jax.arena.reported import verify_reported
    from spectra_jax.reporting.console import Column, print_table

    rows = verify_reported(names)
    fetched = [row for row in rows if row.unreachable is None]
    if as_json:
        typer.echo(json.dumps([asdict(row) | {"difference": row.difference} for row in rows], indent=1))
    elif fetched:
        columns = [
            Column("dataset", "text"),
            Column("reported", "number"),
            Column("recomputed", "number"),
            Column("difference", "number", optional=2),
            Column("may differ by", "number", optional=1),
            Column("trials", "number", optional=3),
            Column(""),
        ]
        cells = [
            (
                row.dataset,
                row.reported,
                "-" if row.recomputed is None else f"{row.recomputed:.6f}",
                "-" if row.difference is None else f"{row.difference:+.1e}",
                f"{row.tolerance:.0e}",
                "-" if row.trials is None else f"{row.trials:,}",
                "see below" if row.problem else "the same",
            )
            for row in fetched
        ]
        print_table(stdout(), columns, cells, title="EER in percent, reported and recomputed")
        # Sentences in a column of a terminal would have a word or two on each line.
        for row in fetched:
            if row.problem:
                stdout().print(Text(f"{row.dataset}: {row.problem}"), soft_wrap=True)
    # One reason for all of them, so that it need not be read nine times.
    for reason in dict.fromkeys(row.unreachable for row in rows if row.unreachable):
        datasets = [row.dataset for row in rows if row.unreachable == reason]
        print_message(f"not verified: {', '.join(datasets)}: {reason}.")
    if not fetched:
        raise typer.Exit(2)
    if any(row.problem for row in rows):
        raise typer.Exit(1)
