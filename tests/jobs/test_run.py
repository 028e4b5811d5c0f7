"""Runs of any size: parts whole or not there, the same score file after whatever happened, and whose run it is."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from spectra_jax import audio
from spectra_jax.data.sources import collect
from spectra_jax.errors import InputError, SkipLimitError
from spectra_jax.inference import results
from spectra_jax.inference.scorer import Listening, Scorer, ScoringProgress
from spectra_jax.jobs import SCHEMA, BulkRun, Store, read_part
from tests.cli.test_cli import PROGRAM
from tests.conftest import spectra
from tests.programs.runs import open_run, write_inputs

RATE = 16000
NUM_CLIPS = 23


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 short clips, of which the sixth is no audio."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(NUM_CLIPS):
        noise = np.random.default_rng(number).normal(size=4000 + 100 * number) * 0.1
        soundfile.write(folder / f"{number:02d}.wav", noise, RATE)
    (folder / "05.wav").write_bytes(b"RIFF and no more")
    return folder


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer("demo", batch_size=3)


def make(folder: Path | str, clips: Path, scorer: Any, **options: Any) -> BulkRun:
    return BulkRun(Store(folder), collect([clips]), scorer, part_size=options.pop("part_size", 6), **options)


def finish(run: BulkRun) -> bytes:
    """Make all parts; the score file."""
    list(run)
    run.merge()
    with run.store.reading("scores.txt") as file:
        return file.read()


@pytest.fixture(scope="module")
def whole(clips: Path, scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The score file of a run that nothing happened to."""
    return finish(make(tmp_path_factory.mktemp("whole") / "run", clips, scorer))


def test_progress_counts_what_this_process_made(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    options = {"listening": Listening(0.05, "mean")}
    list(make(tmp_path / "run", clips, scorer, **options))
    for part in (0, 3):
        (tmp_path / "run" / "parts" / f"part-{part:06d}.parquet").unlink()
    run = make(tmp_path / "run", clips, scorer, **options)
    found: list[ScoringProgress] = []
    run.on_progress = found.append
    list(run)
    # Two stretches of six and five trials, one of them refused.
    assert found[-1].trials == 11
    rows = [row for part in (0, 3) for row in read_part(run.store, part).to_pylist()]
    assert found[-1].windows == sum(len(row["window_scores"] or ()) for row in rows)
    assert all(before.windows <= after.windows for before, after in itertools.pairwise(found))


def test_parts_hold_what_came_of_each_trial(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    run = make(tmp_path / "run", clips, scorer, command=["spectra-jax", "score"])
    assert [(part.number, part.trials, part.skipped) for part in run] == [(0, 6, 1), (1, 6, 0), (2, 6, 0), (3, 5, 0)]
    assert run.merge() == (NUM_CLIPS - 1, 1)
    rows = [row for part in range(4) for row in read_part(run.store, part).to_pylist()]
    assert read_part(run.store, 0).schema.remove_metadata() == SCHEMA
    assert [row["index"] for row in rows] == list(range(NUM_CLIPS))
    for row, trial, result in zip(rows, run.trials, scorer.score_trials(run.trials, flush_every=6), strict=True):
        assert (row["utterance_id"], row["source"]) == (trial.utterance_id, str(trial.path))
        assert (row["score"], row["seconds"], row["error"]) == (result.score, result.seconds, result.error)
        if result.error is None:
            assert (row["logit_spoof"], row["logit_bonafide"]) == result.logits
            assert row["sha256"] == audio.decode(trial.path).sha256
    assert "not an audio file" in rows[5]["error"]
    results.write(scorer.score_trials(run.trials, flush_every=6), tmp_path / "scores.txt")
    assert (tmp_path / "run" / "scores.txt").read_bytes() == (tmp_path / "scores.txt").read_bytes()
    known = json.loads((tmp_path / "run" / "run.json").read_text())
    assert known["command"] == ["spectra-jax", "score"]
    assert {"jax", "spectra-jax", "python"} <= known["versions"].keys()
    assert known["run"]["weights_sha256"] == scorer.identity()["weights_sha256"]


@pytest.mark.parametrize("after", range(4))
def test_a_run_goes_on_after_its_last_whole_part(
    clips: Path, scorer: Scorer, tmp_path: Path, whole: bytes, after: int
) -> None:
    run = make(tmp_path / "run", clips, scorer)
    parts = iter(run)
    for _ in range(after):
        next(parts)
    parts.close()  # type: ignore[attr-defined]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").glob("*")}
    assert len(kept) == after
    again = make(tmp_path / "run", clips, scorer)
    assert again.own() == list(range(after, 4))
    assert finish(again) == whole
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_damaged_parts_and_those_of_another_run_are_made_again(
    clips: Path, scorer: Scorer, tmp_path: Path, whole: bytes
) -> None:
    other = make(tmp_path / "other", clips, scorer, part_size=9)
    list(other)
    finish(run := make(tmp_path / "run", clips, scorer))
    parts = [tmp_path / "run" / "parts" / f"part-{number:06d}.parquet" for number in range(4)]
    parts[1].write_bytes(parts[1].read_bytes()[:-20])
    parts[2].write_bytes(b"")
    parts[3].write_bytes((tmp_path / "other" / "parts" / "part-000000.parquet").read_bytes())
    again = make(tmp_path / "run", clips, scorer)
    assert again.own() == [1, 2, 3]
    with pytest.raises(InputError, match="3 parts of 4 still to be made"):
        again.merge()
    assert finish(again) == whole
    assert run.digest == again.digest


def test_another_run_is_refused_and_what_differs_named(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    list(make(tmp_path / "run", clips, scorer))
    for differing, options in {
        "part_size: 6 there, 9 now": {"part_size": 9},
        "windows.hop: null there, 1.0 now": {"listening": Listening(1.0)},
        'precision: "float32" there, "bfloat16" now': {"scorer": Scorer("demo", batch_size=3, precision="bfloat16")},
        "batch_size: 3 there, 2 now": {"scorer": Scorer("demo", batch_size=2)},
        "input.trials: 23 there, 22 now": {"inputs": [clips / f"{number:02d}.wav" for number in range(1, NUM_CLIPS)]},
        "input.sha256": {"inputs": [clips / f"{number:02d}.wav" for number in reversed(range(NUM_CLIPS))]},
    }.items():
        trials = collect(options.pop("inputs", [clips]))
        given = {"scorer": scorer, "part_size": 6} | options
        with pytest.raises(InputError, match=rf"holds another run; give another folder(?s:.*){differing}"):
            BulkRun(Store(tmp_path / "run"), trials, **given)


def test_a_folder_of_something_else_is_left_alone(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds other files and no run\.json, such as thesis\.tex"):
        make(tmp_path, clips, scorer)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        make(tmp_path, clips, scorer)


@pytest.mark.parametrize("processes", [2, 3, 4, 7])
def test_processes_share_a_run_without_a_word(
    clips: Path, scorer: Scorer, tmp_path: Path, whole: bytes, processes: int
) -> None:
    runs = [make(tmp_path / "run", clips, scorer, process=(which, processes)) for which in range(processes)]
    shares = [run.own() for run in runs]
    assert sorted(part for share in shares for part in share) == list(range(4))
    assert max(map(len, shares)) <= -(-4 // processes)
    # In any order, and one of them in two goes.
    next(iter(runs[0]))
    for run in reversed(runs):
        list(run)
    assert finish(runs[0]) == whole
    with pytest.raises(InputError, match="process 2 of 2: numbers from 0 to 1"):
        make(tmp_path / "run", clips, scorer, process=(2, 2))


def test_errors_of_completed_parts_count_when_a_run_is_resumed(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 42)  # six errors: 0, 1, 1, 1, 1, 1 and 1 in the parts

    def errors_until_stopped(**options: Any) -> str:
        with pytest.raises(SkipLimitError) as stopped:
            list(open_run(tmp_path / "run", inputs, **options))
        return str(stopped.value).partition(" ")[0]

    assert errors_until_stopped(max_errors=1) == "2"
    done = len(list((tmp_path / "run" / "parts").iterdir()))
    # The same command makes no other part, and none of its processes does.
    for process in [(0, 1), (0, 2), (1, 2)]:
        assert errors_until_stopped(max_errors=1, process=process) == "2"
        assert len(list((tmp_path / "run" / "parts").iterdir())) == done
    assert errors_until_stopped(max_errors=4) == "5"
    list(open_run(tmp_path / "run", inputs, max_errors=6))
    assert errors_until_stopped(max_errors=5) == "6"


def test_too_many_errors_stop_a_run_and_what_was_done_is_kept(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(SkipLimitError, match="1 trial could not be scored, more than the 0 allowed"):
        list(make(tmp_path / "run", clips, scorer, max_errors=0))
    run = make(tmp_path / "run", clips, scorer, max_errors=1)
    assert run.own() == [1, 2, 3]
    list(run)
    assert run.errors(9)[0][0] == "05"


def test_every_window_is_kept(scorer: Scorer, tmp_path: Path) -> None:
    seconds = scorer.model.config.num_samples / RATE
    noise = np.random.default_rng(0).normal(size=int((seconds + 2.5) * RATE)).astype(np.float32) * 0.1
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "long.wav", noise, RATE, subtype="FLOAT")
    run = make(tmp_path / "run", tmp_path / "clips", scorer, listening=Listening(1.0, "min"))
    list(run)
    (row,) = read_part(run.store, 0).to_pylist()
    prepared = audio.pre_emphasis(noise)
    starts = [prepared[hop * RATE :][: scorer.model.config.num_samples] for hop in range(3)]
    expected = scorer.logits(np.stack(starts))[:, 1]
    # Float32 windows of other batches.
    np.testing.assert_allclose(row["window_scores"], expected, atol=1e-5)
    assert row["score"] == min(row["window_scores"])


def test_a_run_in_a_store_far_away(clips: Path, scorer: Scorer, whole: bytes) -> None:
    fs = fsspec.filesystem("memory")
    try:
        parts = iter(make("memory://runs/a", clips, scorer))
        next(parts)
        parts.close()  # type: ignore[attr-defined]
        run = make("memory://runs/a", clips, scorer)
        assert run.own() == [1, 2, 3]
        assert finish(run) == whole
    finally:
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]
    with pytest.raises(InputError, match="nowhere"):
        Store("nowhere://x")


def test_files_in_a_store_are_checked_as_well(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    inputs = write_inputs(tmp_path / "inputs", 8)
    try:
        expected = finish(open_run("memory://runs/b", inputs))
        part = "/runs/b/parts/part-000000.parquet"
        data = bytearray(fs.cat(part))
        data[100] ^= 1
        fs.pipe(part, bytes(data))
        run = open_run("memory://runs/b", inputs)
        assert run.unusable == {} and run.own() == [0]
        assert run.unusable == {
            0: "memory://runs/b/parts/part-000000.parquet: damaged: its checksum is not that of its bytes"
        }
        assert finish(run) == expected
        assert fs.cat("/runs/b/replaced/part-000000.parquet") == bytes(data)
        fs.pipe("/runs/b/run.json", b"{")
        with pytest.raises(InputError, match=r"memory://runs/b: its run\.json is damaged"):
            open_run("memory://runs/b", inputs)
        fs.rm("/runs/b/run.json")
        assert open_run("memory://runs/b", inputs).own() == []
        fs.pipe("/runs/c/notes.md", b"")
        with pytest.raises(InputError, match=r"memory://runs/c: holds other files and no run\.json, such as notes\.md"):
            open_run("memory://runs/c", inputs)
    finally:
        fs.store.clear()
        fs.pseudo_dirs[:] = [""]


def test_a_file_url_is_a_folder_here(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 8)
    expected = finish(open_run(f"file://{tmp_path}/run", inputs))
    assert (tmp_path / "run" / "scores.txt").read_bytes() == expected
    assert open_run(tmp_path / "run", inputs).own() == []
    left = tmp_path / "run" / ".scores.txt.0123456789ab.partial"
    left.touch()
    open_run(f"file://{tmp_path}/run", inputs)
    assert not left.exists()


# ---- inputs that change ---------------------------------------------------------------------------------------------


def partial_run(folder: Path, inputs: Path) -> None:
    """A run of three parts, of which the first is made."""
    made = iter(open_run(folder, inputs))
    next(made)
    made.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("index", [2, 15], ids=["scored", "to be scored"])
@pytest.mark.parametrize("change", ["content", "length", "time"])
def test_an_input_that_changed_before_a_run_was_resumed_is_named(tmp_path: Path, index: int, change: str) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    partial_run(tmp_path / "run", inputs)
    changed = inputs / f"{index:03d}.wav"
    before = changed.stat()
    changed.write_bytes({"content": b"fine %d", "length": b"better %d", "time": b"good %d"}[change] % index)
    if change == "length":
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(
        InputError, match=f"1 input changed since (?s:.*)\n  '{changed.stem}' (?s:.*)with --accept-changed"
    ) as no:
        open_run(tmp_path / "run", inputs)
    assert f"('{changed}'): {before.st_size}:{before.st_mtime_ns} then, " in str(no.value)
    run = open_run(tmp_path / "run", inputs, accept_changed=True)
    assert run.own() == ([0, 1, 2] if index < 6 else [1, 2])
    assert finish(run) == finish(open_run(tmp_path / "anew", inputs))
    # It is accepted once and for all.
    assert open_run(tmp_path / "run", inputs).own() == []


def test_an_input_that_changes_during_a_run_is_named(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    made = iter(open_run(tmp_path / "run", inputs))
    next(made)
    (inputs / "016.wav").write_bytes(b"another")
    next(made)
    with pytest.raises(InputError, match=r"1 input changed after .* was started:\n  '016' \(.*016\.wav'\): 7:"):
        next(made)
    assert len(list((tmp_path / "run" / "parts").iterdir())) == 2
    with pytest.raises(InputError, match="1 input changed since"):
        open_run(tmp_path / "run", inputs)


def test_parts_know_their_inputs_where_the_record_is_lost(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    partial_run(tmp_path / "run", inputs)
    (tmp_path / "run" / "inputs.parquet").unlink()
    (inputs / "002.wav").write_bytes(b"another")
    run = open_run(tmp_path / "run", inputs)
    assert run.own() == [0, 1, 2]
    assert run.unusable == {0: f"{tmp_path}/run/parts/part-000000.parquet: inputs have changed since"}
    assert finish(run) == finish(open_run(tmp_path / "anew", inputs))


def test_parts_of_an_earlier_version_are_made_again(tmp_path: Path) -> None:
    """They had neither checksums nor stamps."""
    inputs = write_inputs(tmp_path / "inputs", 18)
    expected = finish(open_run(tmp_path / "run", inputs))
    part = tmp_path / "run" / "parts" / "part-000001.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["stamp"]), part)
    run = open_run(tmp_path / "run", inputs)
    assert run.own() == [1]
    assert "without a checksum: damaged, or written by an earlier version" in run.unusable[1]
    assert finish(run) == expected


def test_parts_are_read_by_any_reader_of_parquet(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 18)
    finish(open_run(tmp_path / "run", inputs))
    table = pq.read_table(tmp_path / "run" / "parts")
    assert table["utterance_id"].to_pylist() == [f"{index:03d}" for index in range(18)]
    assert table["stamp"][3].as_py() == f"6:{(inputs / '003.wav').stat().st_mtime_ns}"


def test_two_processes_that_make_the_same_parts(tmp_path: Path) -> None:
    """Each writes its own files, and whoever is last leaves the same bytes."""
    inputs = write_inputs(tmp_path / "inputs", 18)
    expected = finish(open_run(tmp_path / "alone", inputs))
    runs = [open_run(tmp_path / "run", inputs) for _ in range(2)]
    made = [iter(run) for run in runs]
    for _ in range(3):
        for parts in made:
            next(parts)
    for run in runs:
        assert run.merge() == (16, 2)
    assert (tmp_path / "run" / "scores.txt").read_bytes() == expected
    assert not list((tmp_path / "run").rglob(".*"))


# ---- what machines do -----------------------------------------------------------------------------------------------


def test_a_full_disk_costs_one_part(clips: Path, scorer: Scorer, tmp_path: Path, whole: bytes) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs leave to mount a tmpfs")
    try:
        (ballast := disk / "ballast").write_bytes(bytes(40 * 1024))
        run = make(disk / "run", clips, scorer)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
            finish(run)
        assert caught.value.errno == errno.ENOSPC
        assert str(caught.value.filename).startswith(str(disk / "run"))
        done = len(list((disk / "run" / "parts").iterdir()))
        assert 0 < done < 4, "no part or all of them fit on this disk, so the test tests nothing"
        ballast.unlink()
        again = make(disk / "run", clips, scorer)
        assert again.own() == list(range(done, 4))
        assert finish(again) == whole
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def command(folder: Path, clips: Path, *more: object) -> list[str]:
    words = ["score", "--model", "demo", "--batch-size", "3", "--devices", "1", "--part-size", "6", "--output"]
    return [*PROGRAM, *words, f"{folder}/", *map(str, more), str(clips)]


def wait_for(found: Any, what: str) -> None:
    deadline = time.monotonic() + 120
    while not found():
        assert time.monotonic() < deadline, f"no {what} after two minutes"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundred trials, of eleven clips."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(11):
        soundfile.write(folder / f"{number}.wav", np.random.default_rng(number).normal(size=4000) * 0.1, RATE)
    rows = [f"{number % 11}.wav,{number}\n" for number in range(301)]
    (folder / "m.csv").write_text("path,utterance_id\n" + "".join(rows))
    return folder / "m.csv"


@pytest.mark.slow
def test_the_command_killed_and_interrupted_ends_in_the_same_bytes(many_clips: Path, tmp_path: Path) -> None:
    subprocess.run(command(tmp_path / "whole", many_clips), check=True, capture_output=True)
    folder, moments = tmp_path / "run", random.Random(1)
    for signal_sent in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        before = len(list(folder.glob("parts/*.parquet")))
        with subprocess.Popen(command(folder, many_clips), stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_for(lambda: len(list(folder.glob("parts/*.parquet"))) > before, "part")  # noqa: B023
                time.sleep(moments.uniform(0, 0.05))
                process.send_signal(signal_sent)
                _, printed = process.communicate(timeout=60)
            finally:
                process.kill()
        if signal_sent != signal.SIGKILL:
            assert process.returncode == 128 + signal_sent
            how = "interrupted" if signal_sent == signal.SIGINT else "ended by SIGTERM"
            kept = f"{folder}/ keeps the completed parts; the same command resumes the run"
            assert printed.splitlines()[-1] == f"spectra-jax: {how}; {kept}"
            assert not list(folder.rglob(".*"))
    done = len(list(folder.glob("parts/*.parquet")))
    assert 3 <= done < 50, "killed after its end, so the test tests nothing"
    last = subprocess.run(command(folder, many_clips), capture_output=True, text=True)
    assert last.returncode == 0
    assert f"{done * 6} of 301 trials were scored already; resuming" in last.stderr
    assert "301 of 301 trials scored, 0 skipped" in last.stderr
    assert (folder / "scores.txt").read_bytes() == (tmp_path / "whole" / "scores.txt").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_processes_of_jax_distributed_one_killed_and_restarted(
    many_clips: Path, tmp_path: Path, processes: int
) -> None:
    """301 trials in 51 parts, the last of one, over 2 and 4 processes that JAX tells who is who."""
    folder = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"

    def start(which: int, *more: str) -> subprocess.Popen[str]:
        words = command(folder, many_clips, "--process", f"{which}/{processes}", *more)
        return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)

    running = [start(which, "--distributed", address) for which in range(processes)]
    try:
        # The first one was their coordinator, and its death is nothing to the others. It dies once it has a part.
        wait_for(lambda: (folder / "parts" / "part-000000.parquet").exists(), "part of the first process")
        running[0].kill()
        printed = [process.communicate(timeout=300)[1] for process in running]
        assert [process.returncode for process in running] == [-signal.SIGKILL] + [0] * (processes - 1), printed
        assert not (folder / "scores.txt").exists()
        again = start(0)
        assert "301 of 301 trials scored" in again.communicate(timeout=300)[1]
    finally:
        for process in running:
            process.kill()
    subprocess.run(command(tmp_path / "whole", many_clips), check=True, capture_output=True)
    assert (folder / "scores.txt").read_bytes() == (tmp_path / "whole" / "scores.txt").read_bytes()


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command_scores_into_a_folder(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: bytes
) -> None:
    words = ["score", "--model", "demo", "--batch-size", 3, "--devices", 1, "--part-size", 6, "-o", tmp_path / "run"]
    assert spectra(monkeypatch, *words, clips) == 1
    printed = capsys.readouterr().err
    assert "part 4 of 4: 23 trials, 1 skipped" in printed
    assert "22 of 23 trials scored, 1 skipped" in printed
    assert "skipped 05: " in printed
    assert (tmp_path / "run" / "scores.txt").read_bytes() == whole
    assert spectra(monkeypatch, *words, clips) == 1
    assert "23 of 23 trials were scored already\n" in capsys.readouterr().err
    assert spectra(monkeypatch, *words, "--precision", "bfloat16", clips) == 2
    assert 'precision: "float32" there, "bfloat16" now' in capsys.readouterr().err
    assert spectra(monkeypatch, *words, "--max-errors", 0, clips) == 2
    assert "1 trial could not be scored, more than the 0 allowed" in capsys.readouterr().err
    (clips / "07.wav").touch()
    assert spectra(monkeypatch, *words, clips) == 2
    assert "1 input changed since" in capsys.readouterr().err
    assert spectra(monkeypatch, *words, "--accept-changed", clips) == 1
    printed = capsys.readouterr().err
    assert "part-000001.parquet: inputs have changed since; it is made again, and what was there is kept" in printed
    assert (tmp_path / "run" / "scores.txt").read_bytes() == whole


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--process", "0/2"], "--process is for runs into a folder"),
        (["--max-errors", "3", "-o", "s.txt"], "--max-errors is for runs into a folder"),
        (["--accept-changed"], "--accept-changed is for runs into a folder"),
        (["--process", "2/2", "-o", "run/"], "--process 2/2: I/N is expected"),
        (["--process", "one", "-o", "run/"], "--process one: I/N is expected"),
        (["--distributed", "127.0.0.1:1", "-o", "run/"], "with an address, --process I/N says"),
        (["--windows", "hop=soon", "-o", "run/"], "'hop=soon' is not hop=SECONDS"),
        (["--windows", "hop=0"], "hop = 0.0: seconds above 0"),
    ],
)
def test_options_that_do_not_go_together(
    clips: Path, words: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spectra(monkeypatch, "score", "--model", "demo", *words, clips) == 2
    assert complaint in capsys.readouterr().err
