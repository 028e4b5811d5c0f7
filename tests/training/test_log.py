"""The log of a run, and the events in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spectra_jax.training import EvaluationEvent, StepEvent, read_log
from spectra_jax.training.log import Event, Log
from tests.training.runs import without_speed


def test_an_incomplete_last_line_is_ignored(tmp_path: Path, finished: tuple[Path, list[Any]]) -> None:
    text = (finished[0] / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(text[:-20])
    assert without_speed(read_log(tmp_path / "log.jsonl")) == without_speed(finished[1][:-1])


def test_a_line_has_the_fields_that_earlier_versions_wrote(finished: tuple[Path, list[Any]]) -> None:
    lines = [json.loads(line) for line in (finished[0] / "log.jsonl").read_text().splitlines()]
    fields = {line["event"]: list(line) for line in lines}
    step = ["event", "step", "loss", "gradient_norm", "learning_rate", "clips_per_second", "refused"]
    assert fields == {"step": step, "evaluation": ["event", "step", "loss", "eer", "best", "refused"]}


def test_skipped_clips_are_read_back(tmp_path: Path) -> None:
    events: list[Event] = [
        StepEvent(1, 0.5, 1.0, 1e-4, 10.0, ("a: no such file",)),
        EvaluationEvent(1, 0.5, 0.25, True, ("b: x",)),
    ]
    with Log(tmp_path / "log.jsonl", 0) as log:
        for event in events:
            log.write(event)
    assert read_log(tmp_path / "log.jsonl") == events


def test_a_resumed_log_loses_the_events_after_the_saved_state(tmp_path: Path) -> None:
    events = [StepEvent(step, 0.5, 1.0, 1e-4, 10.0) for step in (1, 2, 3)]
    with Log(tmp_path / "log.jsonl", 0) as log:
        for event in events:
            log.write(event)
    with Log(tmp_path / "log.jsonl", 2):
        pass
    assert read_log(tmp_path / "log.jsonl") == events[:2]
