"""Train on all devices until the evaluation of a step, and print the losses of the steps as JSON.

python -m tests.programs.run_until MANIFEST DIRECTORY STEP '{"sharding": "fsdp"}'

The last argument has fields of the training configuration. A run that has a saved state is resumed.
"""

from __future__ import annotations

import json
import sys

from spectra_jax.training import EvaluationEvent, Run
from tests.training.runs import config

manifest, directory, last_step, settings = sys.argv[1:]
losses = {}
for event in Run(manifest, directory, config(dropout=0.0, **json.loads(settings))):
    losses[f"{type(event).__name__} {event.step}"] = event.loss
    if isinstance(event, EvaluationEvent) and event.step >= int(last_step):
        break
json.dump(losses, sys.stdout)
