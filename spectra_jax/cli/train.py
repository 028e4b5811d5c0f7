"""`spectra-jax train`: fine-tune a detector, or train a new one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectra_jax.cli.invocation import Invocation
from spectra_jax.cli.options import Debug
from spectra_jax.cli.output import print_message
from spectra_jax.cli.progress import progress_bar

# Groups that are listed when a run starts.
_MOST_GROUPS = 30

if TYPE_CHECKING:
    from spectra_jax.training import EvaluationEvent, Run, StepEvent


def train(
    context: typer.Context,
    manifest: Annotated[
        Path,
        typer.Option(
            metavar="M.csv",
            help="Columns path, label (bonafide, spoof) and split (train, dev); utterance_id, pair, dataset and attack "
            "if it has them.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="A new directory, or that of the same run, which is then resumed."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="C.json", help="Sections `model` and `training`; fields that are left out have their defaults."
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Weights to start from: any model that `score --model` takes."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER",
            help="A pretrained encoder to start from, with a new back-end: a directory or Hub id of wav2vec 2.0, "
            "XLS-R, MMS, HuBERT or WavLM. Not with --init.",
        ),
    ] = None,
    encoder_layers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Take the first N layers of --encoder only.")
    ] = None,
    back_end: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What follows the encoder: kan-aasist, aasist, ecapa-tdnn or pool+linear, in place of the "
            "configuration's. Not with --init.",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Train a detector, from new weights or given ones.

    After any interruption the same command resumes the run from its last saved state.
    """
    import contextlib
    from dataclasses import replace

    import jax

    from spectra_jax.inference import compilation_cache
    from spectra_jax.training import BEST, Run, RunConfig, write_curves

    with warnings.catch_warnings(record=True, action="always", category=DeprecationWarning) as outdated:
        settings = RunConfig() if config is None else RunConfig.from_json(config)
    for warning in outdated:
        print_message(f"{config}: {warning.message}")
    if back_end is not None:
        if init is not None:
            raise typer.BadParameter("--back-end cannot be used with --init, whose model has a back-end already")
        settings = replace(settings, model=replace(settings.model, back_end=back_end))
    x64 = settings.training.precision == "float64"
    with compilation_cache.use_jax_cache(print_message), jax.enable_x64(True) if x64 else contextlib.nullcontext():
        run = Run(manifest, output, settings, init=init, encoder=encoder, encoder_layers=encoder_layers)
        steps = run.config.training.steps
        clips = ", ".join(f"{count:,} {split}" for split, count in run.num_clips.items())
        print_message(f"{manifest}: {clips} clips; {run.num_trained:,} weights to train; {steps:,} steps")
        _print_groups(run)
        if run.steps_done:
            state = "complete" if run.steps_done == steps else "resumed"
            print_message(f"{output}: {state} after step {run.steps_done:,}")
        best = _train_and_report(run, Invocation.of(context))
    picture = write_curves(output)
    print_message(
        f"The best network by dev EER: {output / BEST}" + (f" (step {best.step:,}, {best.eer:.2%})" if best else "")
    )
    print_message(
        f"Curves: {picture}" if picture else "No picture of the curves: it needs the extra `report` (vl-convert-python)"
    )


def _print_groups(run: Run) -> None:
    """The clips of each group that is balanced, smallest groups first."""
    sizes = sorted(run.group_sizes.items(), key=lambda item: item[1])
    if sizes:
        listed = "; ".join(f"{name}: {size:,}" for name, size in sizes[:_MOST_GROUPS])
        more = f"; and {len(sizes) - _MOST_GROUPS:,} larger groups" if len(sizes) > _MOST_GROUPS else ""
        print_message(f"{len(sizes):,} balanced groups, with clips of each: {listed}{more}")


def _train_and_report(run: Run, invocation: Invocation) -> EvaluationEvent | None:
    """Train, with a progress bar on a terminal and a line for each evaluation; the best evaluation."""
    from spectra_jax.training import StepEvent

    nothing_saved = f"{run.output} holds no saved step yet; the same command starts from the beginning"
    resumable = f"{run.output} holds the run as last saved; the same command resumes it"
    invocation.on_interrupt = resumable if run.steps_done else nothing_saved
    best = None
    steps = run.config.training.steps
    # Since the last evaluation.
    past: list[StepEvent] = []
    with progress_bar("training", steps, completed=run.steps_done, status="compiling", keep=True) as update_bar:
        for event in run:
            for reason in event.skipped:
                print_message(f"step {event.step}: left out {reason}")
            if isinstance(event, StepEvent):
                past.append(event)
                update_bar(event.step, _status(past, best))
                continue
            # The state was saved before the event.
            invocation.on_interrupt = resumable
            if event.best:
                best = event
            print_message(_evaluation_line(event, past, steps))
            past.clear()
    return best


def _status(past: list[StepEvent], best: EvaluationEvent | None) -> str:
    """The status behind the progress bar: the mean loss of the last steps, the speed and the best dev EER."""
    losses = [event.loss for event in past[-20:]]
    status = f"loss {sum(losses) / len(losses):.3f}  {past[-1].clips_per_second:.0f} clips/s"
    return status + (f"  best dev EER {best.eer:.2%}" if best else "")


def _evaluation_line(event: EvaluationEvent, past: list[StepEvent], steps: int) -> str:
    """An evaluation, with the mean loss and the median speed of the steps since the one before."""
    loss = sum(step.loss for step in past) / len(past)
    speed = sorted(step.clips_per_second for step in past)[len(past) // 2]
    return (
        f"step {event.step:,} of {steps:,}: loss {loss:.4f}, dev loss {event.loss:.4f}, "
        f"dev EER {event.eer:.2%}{' (best)' if event.best else ''}, {speed:.0f} clips/s"
    )
