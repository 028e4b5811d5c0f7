"""Train in several directories, one after another, and print the losses of each run: a line of JSON each.

python -m tests.programs.run_until \
    '[{"devices": 4, "directory": "run", "last_step": 2, "training": {"sharding": "fsdp"}}]' MANIFEST

Each run is on the first `devices` devices and stops after the evaluation of `last_step`; `training` has fields of the
training configuration. A run whose directory has a saved state is resumed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax

from spectra_jax.training import EvaluationEvent, Run
from tests.training.runs import config


def train(devices: int, directory: str, last_step: int, training: dict[str, Any]) -> dict[str, float]:
    """The loss of each event."""
    settings = config("pool+linear", dropout=0.0, **training)
    losses = {}
    for event in Run(sys.argv[2], directory, settings, devices=jax.devices()[:devices]):
        losses[f"{type(event).__name__} {event.step}"] = event.loss
        if isinstance(event, EvaluationEvent) and event.step >= last_step:
            break
    return losses


for run in json.loads(sys.argv[1]):
    print(json.dumps(train(**run)), flush=True)
