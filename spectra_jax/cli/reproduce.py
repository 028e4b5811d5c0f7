"""`spectra-jax reproduce`: the reported EERs, from the datasets to one table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectra_jax.cli.invocation import Invocation
from spectra_jax.cli.options import (
    AsJson,
    Debug,
    EncoderPrecision,
    Model,
    PrecisionOption,
    Seed,
    count_or,
    number_or_auto,
)
from spectra_jax.cli.output import print_json, print_message, stderr, stdout
from spectra_jax.cli.progress import RunReporter, duration
from spectra_jax.errors import InputError
from spectra_jax.hub import PUBLISHED
from spectra_jax.messages import printable

if TYPE_CHECKING:
    from spectra_jax.jobs import BulkRun, Part
    from spectra_jax.jobs.scoring import RunSummary
    from spectra_jax.reproduction import Plan

_UNITS = {"": 1e9, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def _bytes(text: str) -> int:
    """A size such as `20`, `20GB` or `500MB`, in bytes."""
    number = text.rstrip("GMTBgmtb ")
    unit = _UNITS.get(text[len(number) :].strip().upper())
    try:
        size = float(number) * unit if unit is not None else 0.0
    except ValueError:
        size = 0.0
    if not 0 < size < 1e18:
        raise typer.BadParameter(f"{text!r} is not a size such as 20GB or 500MB.")
    return int(size)


def reproduce(
    context: typer.Context,
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATASET",
            help="Names such as SONAR or ASVspoof2019_LA; NAME@REVISION takes another revision than the pinned one. "
            "Default: all nine.",
            show_default=False,
        ),
    ] = None,
    model: Model = PUBLISHED,
    output: Annotated[
        Path,
        typer.Option(
            *("--output", "-o"),
            metavar="DIR",
            help="The folder of the runs and of reproduction.json and .html. The same command resumes what is in it.",
        ),
    ] = Path("reproduction"),
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Score N trials of each dataset only, drawn from each label in proportion, from a few shards.",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print sizes, trials and the estimated hours, and score nothing.")
    ] = False,
    no_score: Annotated[
        bool, typer.Option("--no-score", help="Evaluate what is scored already, and load no network.")
    ] = False,
    mine: Annotated[
        Path | None,
        typer.Option(
            metavar="SCORES/",
            help="A folder with scores of your own system, NAME.txt (.csv, .tsv, .jsonl, .parquet) or NAME/scores.txt "
            "for each dataset: they are in the same table.",
        ),
    ] = None,
    disk_limit: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=_bytes,
            help="Most bytes of datasets on the disk at a time, such as 20GB. Shards are then deleted from the Hub "
            "client's cache once their scores are written. Default: no limit, nothing is deleted.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(metavar="N|auto", callback=count_or("auto"), help="Clips per call of the network.")
    ] = "8",
    precision: EncoderPrecision = PrecisionOption.float32,
    devices: Annotated[
        str, typer.Option(metavar="N|all", callback=count_or("all"), help="How many of this machine's devices score.")
    ] = "all",
    certify: Annotated[bool, typer.Option("--certify", help="Score trials with a near tie again in float64.")] = False,
    part_size: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Trials of one part. An interruption loses at most the one in progress."),
    ] = 1000,
    resamples: Annotated[
        int, typer.Option(metavar="N", min=1, help="Resamples of the bootstrap for 95 % intervals.")
    ] = 1000,
    seed: Seed = 0,
    bench_version: Annotated[
        str | None,
        typer.Option(
            metavar="V",
            help="The version of the Arena's tool that the figures are compared with, such as 0.4.0. It is stated with "
            "them.",
        ),
    ] = None,
    no_compile_cache: Annotated[
        bool,
        typer.Option("--no-compile-cache", help="Compile anew. See `spectra-jax score --help`."),
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Reproduce the reported EERs of nine datasets, in one table.

    Datasets are downloaded from the Hub shard by shard and scored into runs that any interruption leaves complete. A
    dataset that cannot be scored costs its own row only. Exit status: 0 all reproduced: the reported EER is in the
    95 % interval of ours (with --sample, the EER of the published scores); 1 some not; 2 wrong usage, or no figures.
    """
    from spectra_jax.jobs.scorer_options import ScorerOptions
    from spectra_jax.reporting.extra import require_report_extra
    from spectra_jax.reporting.reproduction import print_reproduction, write_reproduction_page
    from spectra_jax.reproduction import Settings, reproduce

    settings = Settings(
        folder=output,
        scorer=ScorerOptions(
            *(model, precision.value, number_or_auto(batch_size), None if devices == "all" else int(devices)),
            diagnostics=True,
            certify=certify,
            use_cache=not no_compile_cache,
        ),
        sample=sample,
        seed=seed,
        resamples=resamples,
        part_size=part_size,
        disk_limit=disk_limit,
        mine=mine,
        bench_version=bench_version,
        score=plan or not no_score,
    )
    invocation = Invocation.of(context)
    invocation.on_interrupt = f"{printable(output)} keeps the completed parts; the same command resumes the run"
    reproduction = reproduce(settings, datasets or (), observer=_Observer(plan_only=plan))
    if reproduction is None:
        return
    if reproduction.empty:
        raise typer.Exit(2)
    if as_json:
        print_json(reproduction.to_dict())
    else:
        print_reproduction(reproduction, stdout())
    try:
        require_report_extra()
    except InputError as error:
        # Without a page, hours of scoring are not lost: the same command writes it later.
        print_message(f"no page is written: {error}")
    else:
        page = output / "reproduction.html"
        write_reproduction_page(reproduction, page, ["spectra-jax", *sys.argv[1:]])
        print_message(f"{printable(output / 'reproduction.json')} and {printable(page)}: all figures")
    if not reproduction.passed:
        raise typer.Exit(1)


class _Observer:
    """Prints the plan, the progress and the problems of a reproduction on standard error."""

    def __init__(self, *, plan_only: bool):
        self._plan_only = plan_only
        self._reporter: RunReporter | None = None

    def on_message(self, message: str) -> None:
        print_message(message)

    def on_plan(self, plan: Plan) -> bool:
        _print_plan(plan, on_stdout=self._plan_only)
        return not self._plan_only

    def on_run(self, dataset: str, run: BulkRun) -> Callable[[Part], None]:
        print_message(f"{dataset}: {len(run.trials):,} trials")
        self._reporter = RunReporter(run)
        return self._reporter.report_part

    def on_summary(self, dataset: str, summary: RunSummary) -> None:
        if self._reporter is not None:
            self._reporter.report_summary(summary)

    def on_problem(self, dataset: str, problem: str) -> None:
        print_message(f"{dataset}: not reproduced: {printable(problem)}")


def _print_plan(plan: Plan, *, on_stdout: bool) -> None:
    from spectra_jax.reporting.console import Column, print_table

    columns = [
        Column("dataset", "text"),
        Column("revision", "word", optional=1),
        Column("GB", "number", optional=3),
        Column("trials", "number"),
        Column("scored", "number", optional=2),
        Column("time left", "number"),
    ]
    rows = [
        [
            one.dataset,
            one.revision[:12],
            f"{one.num_bytes / 1e9:,.2f}",
            f"{one.num_trials:,}",
            f"{one.num_scored:,}",
            duration(one.seconds),
        ]
        for one in plan.datasets
    ]
    totals = [sum(one.num_trials for one in plan.datasets), sum(one.num_scored for one in plan.datasets)]
    size = sum(one.num_bytes for one in plan.datasets)
    rows.append(["all", "", f"{size / 1e9:,.2f}", *(f"{total:,}" for total in totals), duration(plan.seconds)])
    console = stdout() if on_stdout else stderr
    print_table(console, columns, rows, title=f"{plan.clips_per_second:,.1f} clips/s of the network on this machine")
