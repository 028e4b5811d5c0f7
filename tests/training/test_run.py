"""A run: its events, interruptions, other runs in its directory, and what stops it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.errors import InputError, TrainingError
from spectra_jax.inference.identity import encode_record
from spectra_jax.model.config import SpectraConfig
from spectra_jax.training import (
    BEST,
    EvaluationEvent,
    Run,
    RunConfig,
    StepEvent,
    export,
    read_log,
    read_manifest,
    write_curves,
)
from tests.conftest import spectra
from tests.training.runs import (
    MODEL,
    TRAINING,
    config,
    rows_of,
    weights_of,
    without_speed,
    write_corpus,
    write_manifest,
)


def test_a_run_yields_and_logs_its_events(finished: tuple[Path, list[Any]]) -> None:
    output, events = finished
    assert [event.step for event in events if isinstance(event, StepEvent)] == [1, 2, 3, 4, 5, 6]
    evaluations = [event for event in events if isinstance(event, EvaluationEvent)]
    assert [event.step for event in evaluations] == [2, 4, 6] and evaluations[0].best
    assert without_speed(read_log(output / "log.jsonl")) == without_speed(events)


def test_the_chart_is_written_into_the_runs_directory(finished: tuple[Path, list[Any]]) -> None:
    chart = write_curves(finished[0])
    assert chart == finished[0] / "curves.svg"
    text = chart.read_text()
    assert text.startswith("<svg") and "cross entropy" in text and "dev EER" in text


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_bits(manifest: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of a run, then the same run again: its events and weights are those without it."""
    settings = config("pool+linear", augment={"noise": 0.5})
    uninterrupted = tmp_path / "uninterrupted"
    events = list(Run(manifest, uninterrupted, settings))
    (tmp_path / "config.json").write_text(settings.to_json())
    options = ("--manifest", manifest, "--config", tmp_path / "config.json", "--output", tmp_path / "run")
    command = [sys.executable, "-m", "spectra_jax", "train", *map(str, options)]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line.startswith("step 4 of 6") for line in process.stderr)
        process.send_signal(signal.SIGKILL)
    resumed = Run(manifest, tmp_path / "run", settings)
    steps_done = resumed.steps_done
    assert steps_done >= 4
    assert without_speed(list(resumed)) == [event for event in without_speed(events) if event.step > steps_done]
    assert without_speed(read_log(tmp_path / "run" / "log.jsonl")) == without_speed(events)
    weights = weights_of(tmp_path / "run" / BEST)
    for path, leaf in weights_of(uninterrupted / BEST).items():
        np.testing.assert_array_equal(weights[path], leaf)
    # A finished run has no further events.
    assert list(Run(manifest, tmp_path / "run", settings)) == []


@pytest.mark.long
def test_a_run_of_the_previous_version_is_resumed(manifest: Path, tmp_path: Path) -> None:
    """Its `run.json` and its saved states have the old name of `ema_decay`."""
    settings = config(ema_decay=0.5)
    uninterrupted = list(Run(manifest, tmp_path / "uninterrupted", settings))
    interrupted = iter(Run(manifest, tmp_path / "run", settings))
    events = [next(interrupted) for _ in range(4)]
    assert isinstance(events[-2], EvaluationEvent)
    assert isinstance(interrupted, Generator)
    interrupted.close()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    del record["sha256"]
    record["training"]["average"] = record["training"].pop("ema_decay")
    (tmp_path / "run" / "run.json").write_bytes(encode_record(record))
    saved = json.loads((tmp_path / "run" / "checkpoints" / "2" / "state" / "_METADATA").read_text())
    names = [leaf["key_metadata"][0]["key"] for leaf in saved["tree_metadata"].values()]
    assert any(name.startswith(".average[") for name in names) and not any(name.startswith(".ema") for name in names)
    resumed = Run(manifest, tmp_path / "run", settings)
    assert resumed.steps_done == 2
    assert without_speed(list(resumed)) == without_speed([event for event in uninterrupted if event.step > 2])
    with pytest.raises(InputError, match=r"training\.average: recorded 0\.5, now 0\.25"):
        Run(manifest, tmp_path / "run", config(ema_decay=0.25))


@pytest.mark.long
def test_sixteen_clips_are_memorised(manifest: Path, tmp_path: Path) -> None:
    """All of the training clips as dev clips: no error is left, and the loss is nearly nothing."""
    rows = [row | {"utterance_id": row["path"]} for row in rows_of(manifest) if row["split"] == "train"]
    rows += [row | {"split": "dev", "utterance_id": row["path"] + "_dev"} for row in rows]
    learnt = write_manifest(tmp_path / "manifest.csv", rows)
    settings = config(steps=200, evaluate_every=200, dropout=0.0, warmup_steps=5)
    assert len(read_manifest(learnt)["train"]) == 16
    last = list(Run(learnt, tmp_path / "run", settings))[-1]
    assert isinstance(last, EvaluationEvent)
    assert last.eer == 0 and last.loss < 0.1


@pytest.mark.long
@pytest.mark.slow
def test_random_labels_leave_the_dev_eer_at_chance(tmp_path: Path) -> None:
    """Where labels are drawn at random, the dev EER stays near a half: nothing leaks from train to dev."""
    manifest = write_corpus(tmp_path / "corpus", train=16, dev=60, tone=False)
    settings = config(steps=100, evaluate_every=20, dropout=0.0)
    rates = [e.eer for e in Run(manifest, tmp_path / "run", settings) if isinstance(e, EvaluationEvent)]
    # 60 clips of each class: the standard deviation of an EER at chance is 0.065.
    assert min(rates) > 0.3 and max(rates) < 0.7


@pytest.mark.slow
def test_init_takes_the_checkpoints_network(manifest: Path, finished: tuple[Path, list[Any]], tmp_path: Path) -> None:
    settings = RunConfig.from_dict(
        {"training": TRAINING | {"steps": 1, "learning_rate": 0.0, "encoder_learning_rate": 0.0}}
    )
    run = Run(manifest, tmp_path / "run", settings, init=finished[0] / BEST)
    assert run.config.model == SpectraConfig.from_dict(MODEL)
    assert len(list(run)) == 2
    before, after = weights_of(finished[0] / BEST), weights_of(tmp_path / "run" / BEST)
    weights = [path for path in before if path.rsplit(".", 1)[-1] not in ("mean", "var", "num_batches")]
    assert all(np.array_equal(before[path], after[path]) for path in weights)
    assert not np.array_equal(before["aasist.gat_s.norm.mean"], after["aasist.gat_s.norm.mean"])
    assert "best" in open_checkpoint(tmp_path / "run" / BEST).provenance["training_init"]


def test_the_directory_of_another_run_is_an_error(manifest: Path, finished: tuple[Path, list[Any]]) -> None:
    with pytest.raises(InputError, match="holds another run") as caught:
        Run(manifest, finished[0], config(seed=1, augment={"noise": 0.5}))
    assert "training.seed: recorded 0, now 1" in str(caught.value)
    with pytest.raises(FileExistsError):
        Run(manifest, manifest.parent, config())


def test_a_partial_record_of_a_killed_run_is_removed(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".run.json.0123456789ab.partial").write_bytes(b"{")
    Run(manifest, folder, config())
    assert not (folder / ".run.json.0123456789ab.partial").exists()
    record = (folder / "run.json").read_bytes()
    (folder / "run.json").write_bytes(record.replace(b'"seed": 0', b'"seed": 1'))
    with pytest.raises(InputError, match=r"run\.json is damaged \(its checksum"):
        Run(manifest, folder, config())


@pytest.mark.slow
def test_a_non_finite_loss_stops_the_run(manifest: Path, tmp_path: Path) -> None:
    settings = config(learning_rate=1e38, encoder_learning_rate=1e38, evaluate_every=1)
    events: list[Any] = []
    with pytest.raises(TrainingError) as caught:
        for event in Run(manifest, tmp_path / "run", settings):
            events.append(event)  # noqa: PERF402
    message = str(caught.value)
    assert "train_" in message
    assert all(np.isfinite(event.loss) for event in events)
    # What was saved can be read, and is finite.
    saved = [event.step for event in events if isinstance(event, EvaluationEvent)]
    assert Run(manifest, tmp_path / "run", settings).steps_done == max(saved, default=0)


@pytest.mark.long
@pytest.mark.slow
def test_a_run_is_resumed_after_the_disk_was_full(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(config().to_json())
    command = ("train", "--manifest", manifest, "--config", tmp_path / "config.json", "-o", tmp_path / "run")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")

    with monkeypatch.context() as patch:
        # The first evaluation is the best one so far.
        patch.setattr(export, "write_native", full)
        assert spectra(patch, *command) == 2
    message = capsys.readouterr().err
    assert "No space left" in message and "Traceback" not in message
    assert spectra(monkeypatch, *command) == 0
    events = read_log(tmp_path / "run" / "log.jsonl")
    assert [event.step for event in events if isinstance(event, StepEvent)] == [1, 2, 3, 4, 5, 6]
    open_checkpoint(tmp_path / "run" / BEST)


def test_a_batch_that_cannot_be_divided_among_the_devices_is_an_error(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size = 8 cannot be divided evenly among 3 devices"):
        Run(manifest, tmp_path / "run", config(), devices=[jax.devices()[0]] * 3)
