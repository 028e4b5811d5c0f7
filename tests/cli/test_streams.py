"""Standard streams that are closed, full, or not read by anybody."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, PROGRAMS

PRINTS = "info demo"
FAILS = "score nowhere.wav"
UNREAD = signal.SIGPIPE + 128


@pytest.mark.parametrize(
    ("words", "redirected", "status", "message"),
    [
        (PRINTS, "| exec true", UNREAD, ""),
        (PRINTS, ">&-", 2, "spectra-jax: standard output: Bad file descriptor\n"),
        (PRINTS, ">/dev/full", 2, "spectra-jax: standard output: No space left on device\n"),
        ("--help", "| exec true", UNREAD, ""),
        ("--help", ">/dev/full", 2, "spectra-jax: standard output: No space left on device\n"),
        (FAILS, ">&-", 2, "spectra-jax: nowhere.wav: "),
        (FAILS, "2>&-", 2, ""),
        (FAILS, ">&- 2>&- <&-", 2, ""),
        (FAILS, "2>/dev/full", 2, ""),
        (FAILS, "2>&1 >/dev/null | exec true", 2, ""),
    ],
)
def test_streams_that_cannot_be_written(words: str, redirected: str, status: int, message: str) -> None:
    program = f"{shlex.join(PROGRAM)} {words}"
    redirections, _, reader = redirected.partition("|")
    # The reader has ended before the command begins to write.
    script = f"{{ sleep 0.2; {program}; }} {redirections} {f'| {reader}' if reader else ''}; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert run.returncode == status
    assert run.stderr.startswith(message) and bool(run.stderr) == bool(message)
    assert run.stderr.count("\n") <= 1


def test_a_pipe_that_is_closed_before_the_command_prints() -> None:
    process = subprocess.Popen([*PROGRAM, "info", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == ""
    assert process.wait() == UNREAD


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    """Otherwise what a C library prints would be written into them."""
    program = shlex.join([sys.executable, str(PROGRAMS / "closed_streams.py"), str(tmp_path / "a.txt")])
    assert subprocess.run(["bash", "-c", f"{program} <&- >&- 2>&-"]).returncode == 0
    assert (tmp_path / "a.txt").read_bytes() == b"scores"
