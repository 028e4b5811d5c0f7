"""Commands that are ended by signals, and whose standard streams are closed, full, or read by nobody."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spectra_jax import cli
from spectra_jax.cli import options
from spectra_jax.files.atomic import atomic_file
from tests.cli.test_cli import PROGRAM


class Left(BaseException):
    """What a command does instead of ending this process."""


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(os, "_exit", leave)


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def kind(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that this process takes by default, whatever ran in it before: Ray leaves a handler that ends it."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_ends_a_command_as_ctrl_c_does(
    kind: signal.Signals,
    leave: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def long_work(*_: object, **__: object) -> None:
        with atomic_file(tmp_path / "a.txt"):
            os.kill(os.getpid(), kind)
            time.sleep(30)

    monkeypatch.setattr("spectra_jax.data.sources.collect", long_work)
    monkeypatch.setattr(options, "stopped_by", signal.SIGUSR1)
    monkeypatch.setattr(sys, "argv", ["spectra-jax", "score", "--model", "demo", str(tmp_path)])
    with pytest.raises(Left, match=str(128 + kind)):
        cli.main()
    assert capsys.readouterr().err == f"spectra-jax: ended by {kind.name}; no output was written\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(kind) == signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang_up(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        raise ValueError("went on")

    monkeypatch.setattr("spectra_jax.data.sources.collect", hang_up)
    monkeypatch.setattr(sys, "argv", ["spectra-jax", "score", "--model", "demo", str(tmp_path)])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit, match="2"):
            cli.main()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_sigterm_is_not_lost_to_jax_distributed() -> None:
    """JAX puts a handler of its own below Python's, with which a process would go on to its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = (
        "import os, signal, sys, time\n"
        "from spectra_jax.cli import bulk\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        f"assert bulk.share('0/1', {address!r}) == (0, 1)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(1)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 7


PRINTS = "info demo"
SAYS = "score nowhere.wav"
UNREAD = signal.SIGPIPE + 128


@pytest.mark.parametrize(
    ("words", "redirected", "status", "said"),
    [
        (PRINTS, "| exec true", UNREAD, ""),
        (PRINTS, ">&-", 2, "spectra-jax: standard output: Bad file descriptor\n"),
        (PRINTS, ">/dev/full", 2, "spectra-jax: standard output: No space left on device\n"),
        ("--help", "| exec true", UNREAD, ""),
        ("--help", ">/dev/full", 2, "spectra-jax: standard output: No space left on device\n"),
        (SAYS, ">&-", 2, "spectra-jax: nowhere.wav: "),
        (SAYS, "2>&-", 2, ""),
        (SAYS, ">&- 2>&- <&-", 2, ""),
        (SAYS, "2>/dev/full", 2, ""),
        (SAYS, "2>&1 >/dev/null | exec true", 2, ""),
    ],
)
def test_streams_that_take_nothing(words: str, redirected: str, status: int, said: str) -> None:
    program = f"{shlex.join(PROGRAM)} {words}"
    redirections, _, reader = redirected.partition("|")
    # The reader has ended before the command begins to write.
    script = f"{{ sleep 0.2; {program}; }} {redirections} {f'| {reader}' if reader else ''}; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert run.returncode == status
    assert run.stderr.startswith(said) and bool(run.stderr) == bool(said)
    assert run.stderr.count("\n") <= 1


def test_files_do_not_take_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    """What a C library prints would land in them."""
    program = (
        "import os, sys\n"
        "from spectra_jax.cli import streams\n"
        "streams.open_missing()\n"
        f"with open({str(tmp_path / 'a.txt')!r}, 'wb') as file:\n"
        "    os.write(2, b'from C')\n"
        "    file.write(b'scores')\n"
        "print('lost', file=sys.stderr)\n"
    )
    script = f"{shlex.join([sys.executable, '-c', program])} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", script]).returncode == 0
    assert (tmp_path / "a.txt").read_bytes() == b"scores"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_a_score_file_that_is_being_written(kind: signal.Signals, tmp_path: Path) -> None:
    clip = Path(__file__).parents[2] / "examples" / "corpus" / "eval" / "june_01.flac"
    rows = [f"{clip},{index}\n" for index in range(5000)]
    (tmp_path / "trials.csv").write_text("path,utterance_id\n" + "".join(rows))
    words = ["score", "--model", "demo", "--output", str(tmp_path / "scores.txt"), str(tmp_path / "trials.csv")]
    with subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not list(tmp_path.glob(".scores.txt.*")):
                assert time.monotonic() < deadline, "scoring did not begin"
                time.sleep(0.05)
            time.sleep(1)
            process.send_signal(kind)
            _, printed = process.communicate(timeout=60)
        finally:
            process.kill()
    assert printed == f"spectra-jax: ended by {kind.name}; no output was written\n"
    assert process.returncode == 128 + kind
    assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]
