"""Progress: bars on a terminal, and lines that report how far a run is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

from spectra_jax.cli import output
from spectra_jax.cli.output import print_message
from spectra_jax.messages import count, printable

if TYPE_CHECKING:
    from spectra_jax.inference.scorer import ScoringProgress
    from spectra_jax.jobs import BulkRun, Part
    from spectra_jax.jobs.scoring import RunSummary


class UpdateBar(Protocol):
    """Moves a progress bar."""

    def __call__(self, completed: float, status: str = "") -> None: ...


@contextmanager
def progress_bar(
    name: str, total: int, *, completed: int = 0, status: str = "", keep: bool = False, console: Console | None = None
) -> Iterator[UpdateBar]:
    """Show a progress bar, on a terminal only.

    Args:
      name: what is done, before the bar.
      total, completed: how many units there are, and how many are done.
      status: what is shown behind the bar.
      keep: whether the bar stays on the terminal when it is complete.
      console: standard error otherwise.

    Yields:
      A function that moves the bar and replaces its status.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = output.stderr if console is None else console
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=not keep,
    ) as bar:
        task = bar.add_task(name, total=total, completed=completed, status=status)

        def update(completed: float, status: str = "") -> None:
            bar.update(task, completed=completed, status=status)

        yield update


_SECONDS_BETWEEN_LINES = 10.0
_STAGE_WORDS = {
    "listing": "listing trials",
    "decoding": "waiting for clips to be decoded",
    "device": "waiting for the device",
    "writing": "writing",
    "python": "in Python",
}


class RunReporter:
    """Prints how far a run is: a line every ten seconds, and at the end.

    A line states the rate, and the stage that takes most of the time. While a part of long recordings is scored, the
    line counts windows.

    Args:
      run: opened, before any part is scored.
    """

    def __init__(self, run: BulkRun):
        pending, missing = run.pending(), run.missing()
        self._run = run
        self._num_pending = self._num_left = sum(map(run.num_trials, pending))
        self._num_scored = self._num_skipped = 0
        self._stage_seconds: dict[str, float] = {}
        self._start = self._last_line = time.monotonic()
        if run.window_policy.hop is not None:
            run.on_progress = self._report_windows
        total = len(run.trials)
        if scored_before := total - sum(map(run.num_trials, missing)):
            resuming = "; resuming" if missing else ""
            print_message(f"{run.store.root}: {scored_before:,} of {total:,} trials were scored already{resuming}")
        for number in pending:
            if number in run.unusable:
                kept = run.store.path("replaced")
                print_message(f"{run.unusable[number]}; it is scored again, and the old file is kept in {kept}")

    def _line_is_due(self) -> bool:
        return time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES

    def _print_line(self, line: str) -> None:
        self._last_line = time.monotonic()
        print_message(line)

    def _report_windows(self, progress: ScoringProgress) -> None:
        if self._line_is_due():
            windows = count(progress.windows, "window")
            self._print_line(f"{progress.trials:,.1f} of {self._num_pending:,} trials, {windows} scored so far")

    def report_part(self, part: Part) -> None:
        """Count a part that was written, and print a line where one is due or the part was the last."""
        self._num_left -= part.trials
        self._num_scored += part.trials
        self._num_skipped += part.skipped
        for stage, seconds in part.stage_seconds.items():
            self._stage_seconds[stage] = self._stage_seconds.get(stage, 0.0) + seconds
        if self._num_left and not self._line_is_due():
            return
        rate = self._num_scored / (time.monotonic() - self._start)
        stage, share = self._slowest_stage()
        self._print_line(
            f"part {part.number + 1:,} of {self._run.num_parts:,}: {count(self._num_scored, 'trial')}, "
            f"{self._num_skipped:,} skipped, {rate:,.1f} trials/s, {share:.0%} of the time {_STAGE_WORDS[stage]}; "
            f"about {duration(self._num_left / rate)} left"
        )

    def _slowest_stage(self) -> tuple[str, float]:
        """The stage that took most of the time, and its share."""
        seconds = self._stage_seconds
        stage = max(seconds, key=lambda stage: seconds[stage], default="python")
        return stage, seconds.get(stage, 0.0) / (sum(seconds.values()) or 1.0)

    def report_summary(self, summary: RunSummary) -> None:
        """Print the state of the run after this process scored its parts."""
        run = self._run
        if summary.missing:
            print_message(
                f"{summary.missing:,} parts are left to other processes; the last one to end writes the score file"
            )
            return
        print_message(
            f"{summary.scored:,} of {len(run.trials):,} trials scored, {summary.skipped:,} skipped -> "
            f"{run.store.path('scores.txt')}"
        )
        if summary.skipped:
            for name, reason in run.skip_reasons(5):
                print_message(f"skipped {printable(name)}: {printable(reason)}")
        if summary.skipped > 5:
            print_message(f"... and {summary.skipped - 5:,} more: column `error` of {run.store.path('parts')}")


def duration(seconds: float) -> str:
    """Seconds as `45 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
