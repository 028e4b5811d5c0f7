"""`spectra-jax score`: audio in, scores out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spectra_jax.cli.calibrate import calibrated_result, read_calibration
from spectra_jax.cli.options import Debug, Model, PrecisionOption, count_or, say, stderr, stdout
from spectra_jax.hub import PUBLISHED


def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Audio files, directories, globs, manifests (.csv, .tsv with a column `path`), or datasets in the "
            "Arena's parquet layout: a directory, a file, or SpeechAntiSpoofingBenchmarks/NAME[@revision] of the Hub.",
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
    batch_size: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            callback=count_or("auto"),
            help="Clips per call of the network, over all devices. `auto` goes by the devices' memory.",
        ),
    ] = "8",
    precision: Annotated[PrecisionOption, typer.Option(help="What the encoder computes in.")] = PrecisionOption.float32,
    ids: Annotated[
        Literal["stem", "path"], typer.Option("--id", help="What a trial is called: its file's stem, or its path.")
    ] = "stem",
    devices: Annotated[
        str,
        typer.Option(
            metavar="N|all",
            callback=count_or("all"),
            help="How many of this machine's devices share the work; `spectra-jax info` lists them.",
        ),
    ] = "all",
    diagnostics: Annotated[
        bool,
        typer.Option(
            "--diagnostics",
            help="Tell each trial's smallest rank gap, by which `compare` tells near ties from bugs (.csv, .jsonl).",
        ),
    ] = False,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify",
            help="Score trials with a near tie again in float64, so that no score depends on device, batch size or "
            "compiler. Such trials are flagged `certified`.",
        ),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="C",
            help="What `spectra-jax calibrate` wrote, or the directory with its calibration.json: adds log-likelihood "
            "ratios and P(spoof).",
        ),
    ] = None,
    spoof_prior: Annotated[float, typer.Option(metavar="P", help="Prior probability of a spoof, for P(spoof).")] = 0.5,
    no_compile_cache: Annotated[
        bool,
        typer.Option(
            "--no-compile-cache",
            help="Compile anew. Otherwise the compiled network is kept in your cache folder ($XDG_CACHE_HOME or "
            "~/.cache), or where JAX_COMPILATION_CACHE_DIR says, and the next run starts sooner.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Score speech clips: higher = more bona fide (a person), lower = more likely spoofed (a machine).

    Exit status: 0 all scored; 1 some trials skipped, each named with its reason; 2 wrong usage.
    """
    del debug  # acted on as it is read
    from spectra_jax import results, sources
    from spectra_jax.trials import InputError

    if output is not None:
        results.check_output(output)
    listed = sources.collect(inputs, ids=ids)
    if output is not None and output.resolve() in (Path(given).resolve() for given in inputs):
        raise InputError(f"{output}: an input, which the scores would replace")

    calibrated = None if calibration is None else read_calibration(calibration)
    if calibrated is not None and not 0 < spoof_prior < 1:
        raise InputError(f"--spoof-prior {spoof_prior}: a probability between 0 and 1, both excluded")

    import jax

    from spectra_jax import compile_cache
    from spectra_jax.scoring import Scorer

    here = jax.local_devices()
    if devices != "all" and int(devices) > len(here):
        raise ValueError(f"--devices {devices}, but there are {len(here)}: {', '.join(map(str, here))}")
    scorer = Scorer(
        model,
        precision=precision.value,
        batch_size="auto" if batch_size == "auto" else int(batch_size),
        devices=here if devices == "all" else here[: int(devices)],
        diagnostics=diagnostics,
        certify=certify,
    )
    with compile_cache.off() if no_compile_cache else compile_cache.kept(say):
        scorer.load(num_clips=len(listed))
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
                yield result if calibrated is None else calibrated_result(result, calibrated, spoof_prior)

    if output is not None:
        results.write(scored(), output)
    else:
        results.table(scored(), stdout())
    certified = sum(results.CERTIFIED in result.flags for result in remarkable)
    for result in remarkable:
        if result.flags == (results.CERTIFIED,):
            continue
        name = result.trial.utterance_id
        say(f"skipped {name}: {result.error}" if result.error else f"scored {name}, but: {', '.join(result.flags)}")
    skipped = sum(result.error is not None for result in remarkable)
    if output is not None:
        say(f"{len(listed) - skipped:,} of {len(listed):,} trials scored -> {output}")
    if certify:
        say(f"{certified:,} with a near tie, scored again in float64")
    if skipped:
        raise typer.Exit(1)
