"""Train a few steps on all devices, and print as JSON what a layout changes and what it must not.

python -m tests.programs.sharded_steps '{"sharding": "fsdp"}'

The argument has fields of the training configuration.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import numpy as np
from flax import nnx

from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training.sharding import Layout
from spectra_jax.training.step import (
    Examples,
    LearningRates,
    Network,
    first_state,
    make_optimizer,
    make_step,
)
from tests.training.runs import config
from tests.training.steps import LABELS, WINDOWS

STEPS = 5


def share_of_device(leaves: dict[str, jax.Array]) -> dict[str, float]:
    """Which share of each array one device has."""
    return {path: leaf.addressable_shards[0].data.size / leaf.size for path, leaf in leaves.items()}


def main(settings: dict[str, Any]) -> None:
    run = config(dropout=0.0, ema_decay=0.9, **settings)
    training = run.training
    layout = Layout.of(training.sharding, jax.devices())
    network = Network(run.model, training.precision, training)
    leaves = network.leaves(SpectraAASIST3(run.model, rngs=nnx.Rngs(params=0)))
    optimizer = make_optimizer(training)
    state, frozen = first_state(network, leaves, training, optimizer, layout)
    step = make_step(run.model, training, optimizer, layout)
    weights = np.array([0.7, 1.3], np.float32)[LABELS]
    examples = jax.device_put(Examples(WINDOWS[None], LABELS[None], weights[None]), layout.by_clip(axis=1))
    rates, key = jax.device_put(
        (LearningRates(np.float32(3e-3), np.float32(3e-3)), jax.random.key(0, impl="rbg")), layout.replicated
    )
    losses, norms = [], []
    for _ in range(STEPS):
        state, report = step(state, frozen, examples, rates, key)
        losses.append(float(report.loss))
        norms.append(float(report.gradient_norm))
    moments = state.optimizer[1]
    shares = [share_of_device(leaves) for leaves in (state.trained, state.ema, moments.mu, moments.nu)]
    json.dump({"losses": losses, "norms": norms, "shares": shares}, sys.stdout)


main(json.loads(sys.argv[1]))
