"""Bulk runs: complete parts, the same score file after any interruption, and processes that share a run."""

from __future__ import annotations

import errno
import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from spectra_jax import audio
from spectra_jax.errors import InputError, SkipLimitError
from spectra_jax.inference import results
from spectra_jax.inference.scorer import Scorer, ScoringProgress
from spectra_jax.inference.windows import WindowPolicy
from spectra_jax.jobs import SCHEMA, read_part
from tests.jobs.conftest import NUM_CLIPS, RATE, open_clips
from tests.programs.runs import finish, open_run, write_inputs


def test_progress_counts_what_this_process_scored(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    options = {"window_policy": WindowPolicy(0.05, "mean")}
    list(open_clips(tmp_path / "run", clips, scorer, **options))
    for part in (0, 3):
        (tmp_path / "run" / "parts" / f"part-{part:06d}.parquet").unlink()
    run = open_clips(tmp_path / "run", clips, scorer, **options)
    found: list[ScoringProgress] = []
    run.on_progress = found.append
    list(run)
    # Two parts of six and five trials, one of them skipped.
    assert found[-1].trials == 11
    rows = [row for part in (0, 3) for row in read_part(run.store, part).to_pylist()]
    assert found[-1].windows == sum(len(row["window_scores"] or ()) for row in rows)
    assert all(before.windows <= after.windows for before, after in itertools.pairwise(found))


def test_parts_hold_the_result_of_each_trial(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    run = open_clips(tmp_path / "run", clips, scorer, command=["spectra-jax", "score"])
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
def test_a_run_resumes_after_its_last_complete_part(
    clips: Path, scorer: Scorer, tmp_path: Path, undisturbed: bytes, after: int
) -> None:
    run = open_clips(tmp_path / "run", clips, scorer)
    parts = iter(run)
    for _ in range(after):
        next(parts)
    parts.close()  # type: ignore[attr-defined]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").glob("*")}
    assert len(kept) == after
    again = open_clips(tmp_path / "run", clips, scorer)
    assert again.pending() == list(range(after, 4))
    assert finish(again) == undisturbed
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_damaged_parts_and_those_of_another_run_are_scored_again(
    clips: Path, scorer: Scorer, tmp_path: Path, undisturbed: bytes
) -> None:
    other = open_clips(tmp_path / "other", clips, scorer, part_size=9)
    list(other)
    finish(run := open_clips(tmp_path / "run", clips, scorer))
    parts = [tmp_path / "run" / "parts" / f"part-{number:06d}.parquet" for number in range(4)]
    parts[1].write_bytes(parts[1].read_bytes()[:-20])
    parts[2].write_bytes(b"")
    parts[3].write_bytes((tmp_path / "other" / "parts" / "part-000000.parquet").read_bytes())
    again = open_clips(tmp_path / "run", clips, scorer)
    assert again.pending() == [1, 2, 3]
    with pytest.raises(InputError, match="3 parts of 4 still to be scored"):
        again.merge()
    assert finish(again) == undisturbed
    assert run.digest == again.digest


@pytest.mark.parametrize("processes", [2, 3, 4, 7])
def test_processes_share_a_run_without_communicating(
    clips: Path, scorer: Scorer, tmp_path: Path, undisturbed: bytes, processes: int
) -> None:
    runs = [open_clips(tmp_path / "run", clips, scorer, process=(index, processes)) for index in range(processes)]
    ranges = [run.pending() for run in runs]
    assert sorted(part for parts in ranges for part in parts) == list(range(4))
    assert max(map(len, ranges)) <= -(-4 // processes)
    # In any order, one of them with an interruption.
    next(iter(runs[0]))
    for run in reversed(runs):
        list(run)
    assert finish(runs[0]) == undisturbed
    with pytest.raises(InputError, match="process 2 of 2: numbers from 0 to 1"):
        open_clips(tmp_path / "run", clips, scorer, process=(2, 2))


def test_errors_of_completed_parts_count_when_a_run_is_resumed(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 42)  # six errors: 0, 1, 1, 1, 1, 1 and 1 in the parts

    def errors_until_stopped(**options: Any) -> str:
        with pytest.raises(SkipLimitError) as stopped:
            list(open_run(tmp_path / "run", inputs, **options))
        return str(stopped.value).partition(" ")[0]

    assert errors_until_stopped(max_errors=1) == "2"
    done = len(list((tmp_path / "run" / "parts").iterdir()))
    # The same command scores no further part, in none of its processes.
    for process in [(0, 1), (0, 2), (1, 2)]:
        assert errors_until_stopped(max_errors=1, process=process) == "2"
        assert len(list((tmp_path / "run" / "parts").iterdir())) == done
    assert errors_until_stopped(max_errors=4) == "5"
    list(open_run(tmp_path / "run", inputs, max_errors=6))
    assert errors_until_stopped(max_errors=5) == "6"


def test_too_many_errors_stop_a_run_and_completed_parts_are_kept(clips: Path, scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(SkipLimitError, match="1 trial could not be scored, more than the 0 allowed"):
        list(open_clips(tmp_path / "run", clips, scorer, max_errors=0))
    run = open_clips(tmp_path / "run", clips, scorer, max_errors=1)
    assert run.pending() == [1, 2, 3]
    list(run)
    assert run.skip_reasons(9)[0][0] == "05"


def test_parts_hold_the_scores_of_all_windows(scorer: Scorer, tmp_path: Path) -> None:
    seconds = scorer.model.config.num_samples / RATE
    noise = np.random.default_rng(0).normal(size=int((seconds + 2.5) * RATE)).astype(np.float32) * 0.1
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "long.wav", noise, RATE, subtype="FLOAT")
    run = open_clips(tmp_path / "run", tmp_path / "clips", scorer, window_policy=WindowPolicy(1.0, "min"))
    list(run)
    (row,) = read_part(run.store, 0).to_pylist()
    prepared = audio.pre_emphasis(noise)
    starts = [prepared[hop * RATE :][: scorer.model.config.num_samples] for hop in range(3)]
    # The last one is partial: it holds the end, repeated.
    starts.append(audio.window(prepared[3 * RATE :], scorer.model.config.num_samples))
    expected = scorer.logits(np.stack(starts))[:, 1]
    # The same windows in float32, in other batches.
    np.testing.assert_allclose(row["window_scores"], expected, atol=1e-5)
    assert row["score"] == min(row["window_scores"])


def test_two_processes_that_score_the_same_parts(tmp_path: Path) -> None:
    """Each writes files of its own, and the last one replaces the other's by the same bytes."""
    inputs = write_inputs(tmp_path / "inputs", 18)
    expected = finish(open_run(tmp_path / "alone", inputs))
    runs = [open_run(tmp_path / "run", inputs) for _ in range(2)]
    writers = [iter(run) for run in runs]
    for _ in range(3):
        for parts in writers:
            next(parts)
    for run in runs:
        assert run.merge() == (16, 2)
    assert (tmp_path / "run" / "scores.txt").read_bytes() == expected
    assert not list((tmp_path / "run").rglob(".*"))


def test_a_full_disk_loses_one_part(clips: Path, scorer: Scorer, tmp_path: Path, undisturbed: bytes) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted")
    try:
        (ballast := disk / "ballast").write_bytes(bytes(40 * 1024))
        run = open_clips(disk / "run", clips, scorer)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
            finish(run)
        assert caught.value.errno == errno.ENOSPC
        assert str(caught.value.filename).startswith(str(disk / "run"))
        done = len(list((disk / "run" / "parts").iterdir()))
        assert 0 < done < 4, "no part or all of them fit on this disk, so the test tests nothing"
        ballast.unlink()
        again = open_clips(disk / "run", clips, scorer)
        assert again.pending() == list(range(done, 4))
        assert finish(again) == undisturbed
    finally:
        subprocess.run(["umount", str(disk)], check=True)
