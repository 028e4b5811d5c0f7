"""The part of `spectra-jax score` that scores into a folder: runs of any size, which are gone on with."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

from spectra_jax.cli import options
from spectra_jax.cli.options import say
from spectra_jax.messages import printable

if TYPE_CHECKING:
    from spectra_jax.inference.scorer import ScoringProgress
    from spectra_jax.jobs import BulkRun, Part


def is_folder(output: str) -> bool:
    """Whether results go into a folder: a URL, a folder that is there, or a path ending in `/` or in no extension."""
    from spectra_jax.data.sources.remote import is_url

    path = Path(output)
    return output.endswith("/") or not path.suffix or path.is_dir() or is_url(output)


def share(process: str | None, distributed: str | None) -> tuple[int, int]:
    """Which of how many processes this is, from `--process I/N` and `--distributed auto|HOST:PORT`.

    Raises:
      InputError: they cannot be read, or do not go together.
    """
    from spectra_jax.errors import InputError

    which, processes = 0, 1
    if process is not None:
        one, _, number = process.partition("/")
        if not (one.isdigit() and number.isdigit() and int(one) < int(number)):
            raise InputError(f"--process {process}: I/N is expected, the process' number from 0 and how many there are")
        which, processes = int(one), int(number)
    if distributed is None:
        return which, processes
    import jax

    if distributed == "auto":
        jax.distributed.initialize()
    elif process is None:
        raise InputError(f"--distributed {distributed}: with an address, --process I/N says which process this is")
    else:
        jax.distributed.initialize(distributed, processes, which)
    which, processes = jax.process_index(), jax.process_count()
    # Who is who is all that they had to say to each other. Still connected, one that dies would end the others.
    jax.distributed.shutdown()
    if current_thread() is main_thread():
        # JAX replaced the handler below Python's.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return which, processes


def follow(run: BulkRun, made: Iterable[Part]) -> int:
    """See the run's missing parts made and, where all are there, the score file; how many trials were skipped.

    A line every ten seconds, and at the end, says how far it is, how fast, and what it waits for. While a part of long
    recordings is made, the line counts windows.
    """
    from spectra_jax.messages import count

    total, todo = len(run.trials), run.own()
    already = total - sum(map(run.trials_of, run.missing()))
    if already:
        what = "; resuming" if already < total else ""
        say(f"{run.store.root}: {already:,} of {total:,} trials were scored already{what}")
    for number in todo:
        if number in run.unusable:
            say(f"{run.unusable[number]}; it is made again, and what was there is kept in {run.store.path('replaced')}")
    options.on_interrupt = f"{run.store.root} keeps the completed parts; the same command resumes the run"
    begun = said = time.monotonic()
    own = left = sum(map(run.trials_of, todo))
    scored = skipped = 0
    waited: dict[str, float] = {}

    def show(done: ScoringProgress) -> None:
        nonlocal said
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            say(f"{done.trials:,.1f} of {own:,} trials, {count(done.windows, 'window')} scored so far")

    if run.listening.hop is not None:
        run.on_progress = show
    for part in made:
        left -= part.trials
        scored += part.trials
        skipped += part.skipped
        for what, seconds in part.spent.items():
            waited[what] = waited.get(what, 0.0) + seconds
        now = time.monotonic()
        if now - said > _SAY_EVERY or not left:
            rate = scored / (now - begun)
            most = max(waited, key=lambda what: waited[what], default="python")
            share = waited.get(most, 0.0) / (sum(waited.values()) or 1.0)
            say(
                f"part {part.number + 1:,} of {run.num_parts:,}: {count(scored, 'trial')}, {skipped:,} skipped, "
                f"{rate:,.1f} trials/s, {share:.0%} of the time {_WORDS[most]}; about {_time(left / rate)} left"
            )
            said = now
    if missing := run.missing():
        say(f"{len(missing):,} parts are other processes' to make; the one that ends last writes the score file")
        return skipped
    scored, skipped = run.merge()
    say(f"{scored:,} of {total:,} trials scored, {skipped:,} skipped -> {run.store.path('scores.txt')}")
    if skipped:
        for name, error in run.errors(5):
            say(f"skipped {printable(name)}: {printable(error)}")
        if skipped > 5:
            say(f"... and {skipped - 5:,} more: column `error` of {run.store.path('parts')}")
    return skipped


_SAY_EVERY = 10.0
_WORDS = {
    "listing": "listing trials",
    "decoding": "waiting for clips to be decoded",
    "device": "waiting for the device",
    "writing": "writing",
    "python": "in Python",
}


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
