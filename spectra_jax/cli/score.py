"""`spectra-jax score`: audio in, scores out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spectra_jax.cli.options import Debug, Model, PrecisionOption, say, stderr, stdout
from spectra_jax.hub import PUBLISHED


def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Audio files, directories, globs, or manifests (.csv, .tsv with a column `path`).",
            show_default=False,
        ),
    ],
    model: Model = PUBLISHED,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="F",
            help="Where scores go: .txt (the Arena's score file), .csv or .jsonl. Without it a table is printed.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips per call of the network.")] = 8,
    precision: Annotated[PrecisionOption, typer.Option(help="What the encoder computes in.")] = PrecisionOption.float32,
    ids: Annotated[
        Literal["stem", "path"], typer.Option("--id", help="What a trial is called: its file's stem, or its path.")
    ] = "stem",
    debug: Debug = False,
) -> None:
    """Score speech clips: higher = more bona fide (a person), lower = more likely spoofed (a machine).

    Exit status: 0 all scored; 1 some trials skipped, each named with its reason; 2 wrong usage.
    """
    del debug  # acted on as it is read
    from spectra_jax import results, trials

    if output is not None:
        results.check_output(output)
    listed = trials.collect(inputs, ids=ids)
    if output is not None and output.resolve() in (Path(given).resolve() for given in inputs):
        raise trials.InputError(f"{output}: an input, which the scores would replace")

    from spectra_jax.scoring import Scorer

    scorer = Scorer(model, precision=precision.value, batch_size=min(batch_size, len(listed)))
    scorer.load()
    remarkable: list[results.Result] = []

    def scored() -> Iterator[results.Result]:
        with Progress(
            TextColumn("scoring"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=stderr,
            disable=not stderr.is_terminal,
            transient=True,
        ) as progress:
            for result in progress.track(scorer.score_trials(listed), total=len(listed)):
                if result.error is not None or result.flags:
                    remarkable.append(result)
                yield result

    if output is not None:
        results.write(scored(), output)
    else:
        results.table(scored(), stdout())
    for result in remarkable:
        name = result.trial.utterance_id
        say(f"skipped {name}: {result.error}" if result.error else f"scored {name}, but: {', '.join(result.flags)}")
    skipped = sum(result.error is not None for result in remarkable)
    if output is not None:
        say(f"{len(listed) - skipped:,} of {len(listed):,} trials scored -> {output}")
    if skipped:
        raise typer.Exit(1)
