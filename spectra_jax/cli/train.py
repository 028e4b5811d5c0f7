"""`spectra-jax train`: fine-tune a detector, or train one from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectra_jax.cli import options
from spectra_jax.cli.options import Debug, say

if TYPE_CHECKING:
    from spectra_jax.training import EvaluationEvent, Run


def train(
    manifest: Annotated[
        Path,
        typer.Option(
            metavar="M.csv",
            help="Columns path, label (bonafide, spoof) and split (train, dev); pair and utterance_id if it has them.",
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
        typer.Option(metavar="C.json", help="Sections `model` and `training`; what it leaves out has its default."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Weights to start from: any model that `score --model` takes."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Train a detector, from new weights or given ones.

    After any interruption the same command resumes the run from its last saved state.
    """
    del debug  # acted on as it is read
    import contextlib

    import jax

    from spectra_jax.inference import compilation_cache
    from spectra_jax.training import BEST, Run, RunConfig, write_curves

    settings = RunConfig() if config is None else RunConfig.from_json(config)
    x64 = settings.training.precision == "float64"
    with compilation_cache.use_jax_cache(say), jax.enable_x64(True) if x64 else contextlib.nullcontext():
        run = Run(manifest, output, settings, init=init)
        clips = ", ".join(f"{count:,} {split}" for split, count in run.num_clips.items())
        say(f"{manifest}: {clips} clips; {run.num_trained:,} weights to train; {run.config.training.steps:,} steps")
        if run.steps_done:
            whole = run.steps_done == run.config.training.steps
            say(f"{output}: {'complete' if whole else 'resumed'} after step {run.steps_done:,}")
        options.on_interrupt = f"{output} holds the run as last saved; the same command resumes it"
        best = _follow(run)
    picture = write_curves(output)
    say(f"The best network by dev EER: {output / BEST}" + (f" (step {best.step:,}, {best.eer:.2%})" if best else ""))
    say(
        f"Curves: {picture}" if picture else "No picture of the curves: it needs the extra `report` (vl-convert-python)"
    )


def _follow(run: Run) -> EvaluationEvent | None:
    """Train, and show the progress: a bar on a terminal, a line for each evaluation anywhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from spectra_jax.training import StepEvent

    best = None
    steps = run.config.training.steps
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=options.stderr,
        disable=not options.stderr.is_terminal,
    )
    losses: list[float] = []
    speeds: list[float] = []
    with bar:
        task = bar.add_task("compiling", total=steps, completed=run.steps_done)
        for event in run:
            for reason in event.skipped:
                say(f"step {event.step}: left out {reason}")
            if isinstance(event, StepEvent):
                losses.append(event.loss)
                speeds.append(event.clips_per_second)
                recent = sum(losses[-20:]) / len(losses[-20:])
                words = f"loss {recent:.3f}  {event.clips_per_second:.0f} clips/s"
                if best:
                    words += f"  best dev EER {best.eer:.2%}"
                bar.update(task, completed=event.step, description=words)
                continue
            if event.best:
                best = event
            speed = sorted(speeds)[len(speeds) // 2]
            say(
                f"step {event.step:,} of {steps:,}: loss {sum(losses) / len(losses):.4f}, dev loss {event.loss:.4f}, "
                f"dev EER {event.eer:.2%}{' (best)' if event.best else ''}, {speed:.0f} clips/s"
            )
            losses.clear()
            speeds.clear()
    return best
