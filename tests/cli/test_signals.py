"""Commands that are ended by Ctrl-C and other signals."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spectra_jax import cli
from spectra_jax.files.atomic import atomic_file
from tests.cli.conftest import CLIPS, PROGRAM, PROGRAMS
from tests.waiting import wait_until


class ExitedError(BaseException):
    """Raised where a command would end this process."""


@pytest.fixture(autouse=True)
def exit_status_raised(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_at_once(status: int) -> None:
        raise ExitedError(status)

    monkeypatch.setattr("spectra_jax.cli.signals.exit_at_once", exit_at_once)


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def kind(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal with Python's default handler, whatever ran in this process before: Ray leaves one of its own."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def run_until_exit(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Run `score` in this process, to an exit with this status."""
    monkeypatch.setattr(sys, "argv", ["spectra-jax", "score", "--model", "demo", str(CLIPS)])
    with pytest.raises(ExitedError, match=f"^{status}$"):
        cli.main()


def test_a_signal_ends_a_command_as_ctrl_c_does(
    kind: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def long_work(*arguments: object, **options: object) -> None:
        with atomic_file(tmp_path / "a.txt"):
            os.kill(os.getpid(), kind)
            time.sleep(30)

    monkeypatch.setattr("spectra_jax.data.sources.collect", long_work)
    run_until_exit(monkeypatch, 128 + kind)
    assert capsys.readouterr().err == f"spectra-jax: ended by {kind.name}; no output was written\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(kind) == signal.SIG_DFL


def test_the_next_command_in_a_process_starts_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        for kind in (signal.SIGTERM, signal.SIGINT):
            monkeypatch.setattr("spectra_jax.data.sources.collect", lambda *_, **__: os.kill(os.getpid(), kind))  # noqa: B023
            run_until_exit(monkeypatch, 128 + kind)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err.splitlines() == [
        "spectra-jax: ended by SIGTERM; no output was written",
        "spectra-jax: interrupted; no output was written",
    ]


def test_a_signal_that_is_ignored_stays_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang_up(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        raise ValueError("continued")

    monkeypatch.setattr("spectra_jax.data.sources.collect", hang_up)
    monkeypatch.setattr(sys, "argv", ["spectra-jax", "score", "--model", "demo", str(CLIPS)])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit, match="2"):
            cli.main()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert capsys.readouterr().err == "spectra-jax: continued\n"


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_raised_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python drops what such a callback raises. JAX has one, and signals sent meanwhile are handled in it."""
    before = sys.unraisablehook

    def interrupt(phase: str, info: dict[str, Any]) -> None:
        gc.callbacks.remove(interrupt)
        raise KeyboardInterrupt

    def long_work(*arguments: object, **options: object) -> None:
        gc.callbacks.append(interrupt)
        gc.collect()
        for _ in range(3000):
            time.sleep(0.01)
        raise ValueError("the interrupt was lost")

    monkeypatch.setattr("spectra_jax.data.sources.collect", long_work)
    run_until_exit(monkeypatch, 130)
    assert capsys.readouterr().err == "spectra-jax: interrupted; no output was written\n"
    assert sys.unraisablehook is before


def test_ctrl_c_does_not_wait_for_a_thread_that_compiles() -> None:
    """Python joins threads as it ends, and a network of full size takes a minute to compile."""
    program = [sys.executable, str(PROGRAMS / "interrupted_beside_a_thread.py")]
    # The thread ends when nobody holds its standard input any more: without the exit, not before this test does.
    with subprocess.Popen(program, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.wait(timeout=60) == 130
            assert process.stderr is not None
            assert process.stderr.read() == "spectra-jax: interrupted; no output was written\n"
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "seconds"),
    [(signal.SIGINT, 0.3), (signal.SIGINT, 2), (signal.SIGINT, 5), (signal.SIGTERM, 1), (signal.SIGHUP, 1)],
)
def test_a_score_file_that_is_being_written(kind: signal.Signals, seconds: float, tmp_path: Path) -> None:
    """Afterwards it does not exist, neither complete nor in part, and no traceback is printed."""
    rows = [f"{CLIPS / 'june_01.flac'},{index}\n" for index in range(5000)]
    (tmp_path / "trials.csv").write_text("path,utterance_id\n" + "".join(rows))
    words = ["score", "--model", "demo", "--output", str(tmp_path / "scores.txt"), str(tmp_path / "trials.csv")]
    with subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: list(tmp_path.glob(".scores.txt.*")), "score file that is being written")
            time.sleep(seconds)
            process.send_signal(kind)
            _, printed = process.communicate(timeout=60)
        finally:
            process.kill()
    how = "interrupted" if kind == signal.SIGINT else f"ended by {kind.name}"
    assert printed == f"spectra-jax: {how}; no output was written\n"
    assert process.returncode == 128 + kind
    assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]
