"""`spectra-jax score`: audio in, scores out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spectra_jax.cli.invocation import Invocation
from spectra_jax.cli.options import Debug, EncoderPrecision, Model, PrecisionOption, SpoofPrior, count_or
from spectra_jax.cli.output import print_message, print_notes, stdout
from spectra_jax.cli.progress import RunReporter, progress_bar
from spectra_jax.cli.score_options import NetworkOptions, RunOptions, ScoreOptions
from spectra_jax.data.trial import MAX_CLIP_BYTES
from spectra_jax.hub import PUBLISHED
from spectra_jax.messages import count, printable

if TYPE_CHECKING:
    from spectra_jax.data.sources import Trials
    from spectra_jax.inference.scorer import ScoringProgress
    from spectra_jax.jobs.scoring import ScoringSummary


def score(
    context: typer.Context,
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
    precision: EncoderPrecision = PrecisionOption.float32,
    ids: Annotated[
        Literal["stem", "path"], typer.Option("--id", help="What a trial's id is: its file's stem, or its path.")
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
            help="The file that `spectra-jax calibrate` wrote, or the directory with its calibration.json: adds "
            "log-likelihood ratios and P(spoof).",
        ),
    ] = None,
    spoof_prior: SpoofPrior = 0.5,
    windows: Annotated[
        str | None,
        typer.Option(metavar="hop=S", help="Score a window every S seconds instead of the first; see --aggregate."),
    ] = None,
    aggregate: Annotated[
        Literal["speech-mean", "mean", "min", "median", "first"] | None,
        typer.Option(
            help="With --windows: how a clip's score follows from those of its windows. By default the mean over the "
            "windows that hold speech (speech-mean), which needs the extra `inspect`.",
            show_default=False,
        ),
    ] = None,
    part_size: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="With a folder: trials of one part. An interruption loses at most the part in progress.",
        ),
    ] = 1000,
    max_errors: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="With a folder: stop once more than N trials could not be scored."),
    ] = None,
    accept_changed: Annotated[
        bool,
        typer.Option(
            "--accept-changed",
            help="With a folder: inputs may have changed since the run was started. Parts with such inputs are scored "
            "again, even if only a time of modification changed.",
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
        typer.Option(help="With a folder: what scores the parts, this process or a Ray cluster (extra `ray`)."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="A",
            help="The Ray cluster, such as auto or ray://head:10001. Without it one is started on this machine.",
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="How many actors of the Ray cluster score. Default: one a GPU, or else one a node.",
        ),
    ] = None,
    no_compile_cache: Annotated[
        bool,
        typer.Option(
            "--no-compile-cache",
            help="Compile anew. Otherwise the compiled network is kept in your cache folder ($XDG_CACHE_HOME or "
            "~/.cache), or in JAX_COMPILATION_CACHE_DIR, and the next run starts sooner.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Score speech clips: higher = more bona fide.

    Exit status: 0 all scored; 1 some trials skipped or inputs not read, each named with its reason; 2 wrong usage.
    """
    network = NetworkOptions(model, precision.value, batch_size, devices, diagnostics, certify, no_compile_cache)
    run = RunOptions(part_size, max_errors, accept_changed, process, distributed, engine, address, actors)
    options = ScoreOptions(
        *(inputs, output, network, run, ids, max_clip_bytes, escape_ids, calibration, spoof_prior, windows, aggregate)
    )
    trials = options.collect_trials()
    print_notes(trials)
    if options.folder is None:
        skipped = _score_clips(options, trials)
    else:
        skipped = _score_to_run(options, options.folder, trials, Invocation.of(context))
    if skipped or trials.skipped_inputs.unreadable:
        raise typer.Exit(1)


def _score_clips(options: ScoreOptions, trials: Trials) -> int:
    """Score into a table or a file, and print what was found; the number of trials skipped."""
    from spectra_jax.jobs import scoring
    from spectra_jax.reporting.results_table import print_results

    calibrator, window_policy = options.calibrator(), options.window_policy
    scorer = options.scorer_options(len(trials)).load(len(trials), print_message)
    with progress_bar("scoring", len(trials)) as update_bar:

        def show(progress: ScoringProgress) -> None:
            # One recording may have hours of windows.
            update_bar(progress.trials, "" if window_policy.hop is None else count(progress.windows, "window"))

        if options.file is None:
            summary = scoring.ScoringSummary()
            found = scoring.score_trials(
                trials, scorer, window_policy=window_policy, calibrator=calibrator, on_progress=show
            )
            rows = list(summary.count(found))
        else:
            summary = scoring.score_to_file(
                trials,
                scorer,
                options.file,
                window_policy=window_policy,
                calibrator=calibrator,
                escape_ids=options.escape_ids,
                on_progress=show,
            )
    if options.file is None:
        print_results(rows, stdout())
    _print_summary(summary, options)
    if window_policy.hop is None:
        _print_unheard(summary, scorer.model.config.num_samples / scorer.model.config.sample_rate)
    return summary.skipped


def _print_unheard(summary: ScoringSummary, window_seconds: float) -> None:
    """Print how much of recordings longer than a window was not scored."""
    longer = summary.longer_than(window_seconds)
    if not longer:
        return
    recordings = "" if summary.scored == 1 else f" in each of {count(len(longer), 'recording')} that are longer"
    longest = "" if len(longer) == 1 and summary.scored == 1 else "at most "
    print_message(f"heard {window_seconds:.2f} of {longest}{max(longer):.2f} s{recordings}; --windows hop=2 hears all")


def _print_summary(summary: ScoringSummary, options: ScoreOptions) -> None:
    for result in summary.notable:
        name = printable(result.trial.utterance_id)
        if result.error is not None:
            print_message(f"skipped {name}: {printable(result.error)}")
        else:
            print_message(f"scored {name}, but: {', '.join(result.flags)}")
    if options.file is not None:
        print_message(f"{summary.scored:,} of {summary.trials:,} trials scored -> {options.output}")
    if options.network.certify:
        print_message(f"{summary.certified:,} with a near tie, scored again in float64")


def _score_to_run(options: ScoreOptions, folder: str, trials: Trials, invocation: Invocation) -> int:
    """Score into the folder of a run, and print its progress; the number of trials skipped."""
    from spectra_jax.jobs import BulkRun, Store, distributed
    from spectra_jax.jobs.scoring import score_to_run

    process, window_policy = options.process, options.window_policy
    if options.run.distributed is not None:
        process = distributed.join(options.run.distributed, process)
    on_ray = options.run.engine == "ray"
    scorer = options.scorer_options(len(trials))
    run = BulkRun(
        Store(folder),
        trials,
        scorer if on_ray else scorer.load(len(trials), print_message),
        part_size=options.run.part_size,
        window_policy=window_policy,
        process=process,
        max_errors=options.run.max_errors,
        accept_changed=options.run.accept_changed,
        command=sys.argv,
        escape_ids=options.escape_ids,
    )
    cluster = None
    if on_ray:
        from spectra_jax.jobs.ray import Cluster

        cluster = Cluster(options.run.address, options.run.actors)
    reporter = RunReporter(run)
    invocation.on_interrupt = f"{run.store.root} keeps the completed parts; the same command resumes the run"
    summary = score_to_run(run, cluster, on_part=reporter.report_part)
    reporter.report_summary(summary)
    return summary.skipped
