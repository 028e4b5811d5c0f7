"""`spectra-jax score`: audio in, scores out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spectra_jax.cli.calibrate import calibrated_result, read_calibration
from spectra_jax.cli.options import (
    Debug,
    Model,
    PrecisionOption,
    count_or,
    say,
    say_left_out,
    stderr,
    stdout,
    will_write,
)
from spectra_jax.data.trial import MAX_CLIP_BYTES
from spectra_jax.hub import PUBLISHED
from spectra_jax.messages import printable


def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Audio files, directories, globs, manifests (.csv, .tsv, .jsonl, .parquet with a column `path`), tar "
            "shards, URLs of any of these, `-` for a list on standard input, or datasets in the Arena's parquet "
            "layout: a directory, a file, or SpeechAntiSpoofingBenchmarks/NAME (or NAME@revision) of the Hub.",
            show_default=False,
        ),
    ],
    model: Model = PUBLISHED,
    output: Annotated[
        str | None,
        typer.Option(
            *("--output", "-o"),
            metavar="F|DIR/",
            help="Where scores go: .txt (the Arena's score file), .csv or .jsonl; or a folder, in which a run of any "
            "size is resumed after any interruption. Without it a table is printed.",
        ),
    ] = None,
    batch_size: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            callback=count_or("auto"),
            help="Clips per call of the network, over all devices. `auto` depends on the devices' memory.",
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
    max_clip_bytes: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Largest clip of a URL or tar shard, in bytes: it is read into memory. Default: 1 GiB.",
            show_default=False,
        ),
    ] = MAX_CLIP_BYTES,
    escape_ids: Annotated[
        bool,
        typer.Option(
            "--escape-ids",
            help="In a .txt write white space, control characters and % in ids as %XX, as URLs do; ids that have them "
            "are refused otherwise. Other formats hold any id.",
        ),
    ] = False,
    diagnostics: Annotated[
        bool,
        typer.Option(
            "--diagnostics",
            help="Write each trial's smallest rank gap, by which `compare` recognises near ties (.csv, .jsonl).",
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
    windows: Annotated[
        str | None,
        typer.Option(metavar="hop=S", help="Score a window every S seconds instead of the first; see --aggregate."),
    ] = None,
    aggregate: Annotated[
        Literal["first", "mean", "min", "median"],
        typer.Option(help="What a clip gets of its windows' scores. The first window is the network's own convention."),
    ] = "first",
    part_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="With a folder: trials of a part, which is what a stop can cost.")
    ] = 1000,
    max_errors: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="With a folder: stop once more than N trials could not be scored."),
    ] = None,
    accept_changed: Annotated[
        bool,
        typer.Option(
            "--accept-changed",
            help="With a folder: inputs may have changed since the run was started. Parts with such inputs are made "
            "again, after a mere change of the time of modification too.",
        ),
    ] = False,
    process: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="With a folder: this is process I, from 0, of N that share the run."),
    ] = None,
    distributed: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="With a folder: call jax.distributed.initialize, and share the run among its processes.",
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="With a folder: who makes the parts, this process or a Ray cluster (extra `ray`)."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="A", help="Of the Ray cluster, such as auto or ray://head:10001; one of its own otherwise."
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many of the Ray cluster's actors score: one a GPU, or a node."),
    ] = None,
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
    """Score speech clips: higher = more bona fide.

    Exit status: 0 all scored; 1 some trials skipped or inputs not read, each named with its reason; 2 wrong usage.
    """
    del debug  # acted on as it is read
    from spectra_jax.cli import bulk
    from spectra_jax.data import sources
    from spectra_jax.errors import InputError
    from spectra_jax.inference import results
    from spectra_jax.messages import count

    folder = output if output is not None and bulk.is_folder(output) else None
    file = Path(output) if output is not None and folder is None else None
    if folder is None:
        needless = {
            "--max-errors": max_errors,
            "--accept-changed": accept_changed or None,
            "--process": process,
            "--distributed": distributed,
            "--engine ray": None if engine == "local" else engine,
        }
        for option, value in needless.items():
            if value is not None:
                raise InputError(f"{option} is for runs into a folder: give one as --output, such as scores/")
    elif engine == "ray":
        for option, value in {"--process": process, "--distributed": distributed}.items():
            if value is not None:
                raise InputError(f"{option} does not go with --engine ray, which shares the run out itself")
        if batch_size == "auto" or devices != "all":
            raise InputError("--engine ray takes a number as --batch-size, and one device for each actor")
    if windows is None and aggregate != "first":
        raise InputError(f"--aggregate {aggregate}: only the first window is scored without --windows, such as hop=2")
    if engine == "local" and (address is not None or actors is not None):
        raise InputError("--address and --actors are for --engine ray")
    if folder is not None and calibration is not None:
        raise InputError("--calibration is for score files; `spectra-jax calibrate` takes a folder's scores.txt too")
    if file is not None:
        results.check_output(file)
        will_write(file)
    listed = sources.collect(inputs, ids=ids, max_clip_bytes=max_clip_bytes)
    is_txt = folder is not None or (file is not None and file.suffix.lower() == ".txt")
    if is_txt and not escape_ids:
        listed.require_plain_ids()
    incomplete = say_left_out(listed)
    # realpath, since `resolve` fails for a link that leads to itself.
    if file is not None and os.path.realpath(file) in map(os.path.realpath, inputs):
        raise InputError(f"{output}: an input, which the scores would replace")

    calibrated = None if calibration is None else read_calibration(calibration)
    if calibrated is not None and not 0 < spoof_prior < 1:
        raise InputError(f"--spoof-prior {spoof_prior}: a probability between 0 and 1, both excluded")

    share = bulk.share(process, distributed)

    from spectra_jax.devices import local_devices
    from spectra_jax.inference import compilation_cache as compile_cache
    from spectra_jax.inference.scorer import Listening, Scorer, ScoringProgress

    listening = Listening(_hop(windows), aggregate)
    if folder is not None:
        from spectra_jax.jobs import BulkRun, Store

        begin = partial(
            BulkRun,
            Store(folder),
            listed,
            part_size=part_size,
            listening=listening,
            process=share,
            max_errors=max_errors,
            accept_changed=accept_changed,
            command=sys.argv,
            escape_ids=escape_ids,
        )
        if engine == "ray":
            from spectra_jax.jobs.ray import Cluster, Scoring

            size = min(int(batch_size), len(listed))
            run = begin(Scoring(str(model), precision.value, size, diagnostics, certify))
            if bulk.follow(run, run.counted(Cluster(address, actors).make(run))) or incomplete:
                raise typer.Exit(1)
            return
    here = local_devices()
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
    with compile_cache.off() if no_compile_cache else compile_cache.kept(say, here[0].platform) as kept:
        scorer.load(num_clips=len(listed), kept=kept)
    if folder is not None:
        run = begin(scorer)
        if bulk.follow(run, run) or incomplete:
            raise typer.Exit(1)
        return
    remarkable: list[results.Result] = []

    def scored() -> Iterator[results.Result]:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=stderr,
            disable=not stderr.is_terminal,
            transient=True,
        ) as progress:
            task = progress.add_task("scoring", total=len(listed))

            def show(done: ScoringProgress) -> None:
                # One recording may have hours of windows.
                windows = "" if listening.hop is None else f", {count(done.windows, 'window')}"
                progress.update(task, completed=done.trials, description=f"scoring{windows}")

            for result in scorer.score_trials(listed, listening=listening, on_progress=show):
                if result.error is not None or result.flags:
                    remarkable.append(result)
                yield result if calibrated is None else calibrated_result(result, calibrated, spoof_prior)

    if file is not None:
        results.write(scored(), file, escape_ids=escape_ids)
    else:
        results.table(scored(), stdout())
    certified = sum(results.CERTIFIED in result.flags for result in remarkable)
    for result in remarkable:
        if result.flags == (results.CERTIFIED,):
            continue
        name = printable(result.trial.utterance_id)
        say(
            f"skipped {name}: {printable(result.error)}"
            if result.error
            else f"scored {name}, but: {', '.join(result.flags)}"
        )
    skipped = sum(result.error is not None for result in remarkable)
    if file is not None:
        say(f"{len(listed) - skipped:,} of {len(listed):,} trials scored -> {output}")
    if certify:
        say(f"{certified:,} with a near tie, scored again in float64")
    if skipped or incomplete:
        raise typer.Exit(1)


def _hop(windows: str | None) -> float | None:
    """Seconds of `--windows hop=SECONDS`."""
    if windows is None:
        return None
    try:
        return float(windows.removeprefix("hop="))
    except ValueError:
        raise typer.BadParameter(f"{windows!r} is not hop=SECONDS, such as hop=2.", param_hint="--windows") from None
