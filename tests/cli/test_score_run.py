"""`spectra-jax score` into a folder: runs that are interrupted, killed, shared by processes, and resumed."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.conftest import PROGRAM
from tests.conftest import spectra
from tests.waiting import wait_until


def command(folder: Path, clips: Path, *more: object) -> list[str]:
    words = ["score", "--model", "demo", "--batch-size", "3", "--devices", "1", "--part-size", "6", "--output"]
    return [*PROGRAM, *words, f"{folder}/", *map(str, more), str(clips)]


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """301 trials of eleven clips."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(11):
        soundfile.write(folder / f"{number}.wav", np.random.default_rng(number).normal(size=4000) * 0.1, 16000)
    rows = [f"{number % 11}.wav,{number}\n" for number in range(301)]
    (folder / "m.csv").write_text("path,utterance_id\n" + "".join(rows))
    return folder / "m.csv"


@pytest.mark.slow
def test_a_run_that_is_killed_and_interrupted_ends_in_the_same_bytes(many_clips: Path, tmp_path: Path) -> None:
    subprocess.run(command(tmp_path / "undisturbed", many_clips), check=True, capture_output=True)
    folder, moments = tmp_path / "run", random.Random(1)
    for signal_sent in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        before = len(list(folder.glob("parts/*.parquet")))
        with subprocess.Popen(command(folder, many_clips), stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until(lambda: len(list(folder.glob("parts/*.parquet"))) > before, "part")  # noqa: B023
                time.sleep(moments.uniform(0, 0.05))
                process.send_signal(signal_sent)
                _, printed = process.communicate(timeout=60)
            finally:
                process.kill()
        if signal_sent != signal.SIGKILL:
            assert process.returncode == 128 + signal_sent
            how = "interrupted" if signal_sent == signal.SIGINT else "ended by SIGTERM"
            left = f"{folder}/ keeps the completed parts; the same command resumes the run"
            assert printed.splitlines()[-1] == f"spectra-jax: {how}; {left}"
            assert not list(folder.rglob(".*"))
    done = len(list(folder.glob("parts/*.parquet")))
    assert 3 <= done < 50, "killed after its end, so the test tests nothing"
    last = subprocess.run(command(folder, many_clips), capture_output=True, text=True)
    assert last.returncode == 0
    assert f"{done * 6} of 301 trials were scored already; resuming" in last.stderr
    assert "301 of 301 trials scored, 0 skipped" in last.stderr
    assert (folder / "scores.txt").read_bytes() == (tmp_path / "undisturbed" / "scores.txt").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_processes_of_jax_distributed_one_killed_and_restarted(
    many_clips: Path, tmp_path: Path, processes: int
) -> None:
    """301 trials in 51 parts, the last of one, over 2 and 4 processes that learn their indices from JAX."""
    folder = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"

    def start(index: int, *more: str) -> subprocess.Popen[str]:
        words = command(folder, many_clips, "--process", f"{index}/{processes}", *more)
        return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)

    running = [start(index, "--distributed", address) for index in range(processes)]
    try:
        # The first one coordinated the others, which need it no longer. It is killed once it has a part.
        wait_until(lambda: (folder / "parts" / "part-000000.parquet").exists(), "part of the first process")
        running[0].kill()
        printed = [process.communicate(timeout=300)[1] for process in running]
        assert [process.returncode for process in running] == [-signal.SIGKILL] + [0] * (processes - 1), printed
        assert not (folder / "scores.txt").exists()
        again = start(0)
        assert "301 of 301 trials scored" in again.communicate(timeout=300)[1]
    finally:
        for process in running:
            process.kill()
    subprocess.run(command(tmp_path / "undisturbed", many_clips), check=True, capture_output=True)
    assert (folder / "scores.txt").read_bytes() == (tmp_path / "undisturbed" / "scores.txt").read_bytes()


@pytest.mark.slow
def test_a_run_is_reported_resumed_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(23):
        noise = np.random.default_rng(number).normal(size=4000 + 100 * number) * 0.1
        soundfile.write(clips / f"{number:02d}.wav", noise, 16000)
    (clips / "05.wav").write_bytes(b"RIFF and no more")
    words = ["score", "--model", "demo", "--batch-size", 3, "--devices", 1, "--part-size", 6, "-o", tmp_path / "run"]
    assert spectra(monkeypatch, *words, clips) == 1
    printed = capsys.readouterr().err
    assert "part 4 of 4: 23 trials, 1 skipped" in printed
    assert "22 of 23 trials scored, 1 skipped" in printed
    assert "skipped 05: " in printed
    scores = (tmp_path / "run" / "scores.txt").read_bytes()
    assert scores.count(b"\n") == 22
    assert spectra(monkeypatch, *words, clips) == 1
    assert "23 of 23 trials were scored already\n" in capsys.readouterr().err
    assert spectra(monkeypatch, *words, "--precision", "bfloat16", clips) == 2
    assert 'precision: recorded "float32", now "bfloat16"' in capsys.readouterr().err
    assert spectra(monkeypatch, *words, "--max-errors", 0, clips) == 2
    assert "1 trial could not be scored, more than the 0 allowed" in capsys.readouterr().err
    (clips / "07.wav").touch()
    assert spectra(monkeypatch, *words, clips) == 2
    assert "1 input changed since" in capsys.readouterr().err
    assert spectra(monkeypatch, *words, "--accept-changed", clips) == 1
    printed = capsys.readouterr().err
    assert "part-000001.parquet: its inputs have changed since; it is scored again, and the old file is kept" in printed
    assert (tmp_path / "run" / "scores.txt").read_bytes() == scores
