"""Train in several directories, one after another, and print the losses of each run: a line of JSON each.

python -m tests.programs.run_until \
    '[{"devices": 4, "directory": "run", "last_step": 2, "training": {"sharding": "fsdp"}}]' MANIFEST

Each run is on the first `devices` devices and stops after the evaluation of `last_step`; `training` has fields of the
training configuration. A run whose directory has a saved state is resumed. A directory changes only when its
run has ended, so that a process that crashed can be started again.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax

from spectra_jax.training import EvaluationEvent, Run
from tests.training.runs import config


def train(devices: int, directory: str, last_step: int, training: dict[str, Any]) -> dict[str, float]:
    """The loss of each event."""
    settings = config("pool+linear", dropout=0.0, **training)
    losses = {}
    unfinished = Path(f"{directory}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    if Path(directory).exists():
        shutil.copytree(directory, unfinished)
    for event in Run(sys.argv[2], unfinished, settings, devices=jax.devices()[:devices]):
        losses[f"{type(event).__name__} {event.step}"] = event.loss
        if isinstance(event, EvaluationEvent) and event.step >= last_step:
            break
    shutil.rmtree(directory, ignore_errors=True)
    unfinished.rename(directory)
    return losses


for run in json.loads(sys.argv[1]):
    print(json.dumps(train(**run)), flush=True)
