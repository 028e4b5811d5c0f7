"""Train a few steps in several layouts, and print what a layout changes and what it must not: a line of JSON each.

python -m tests.programs.sharded_steps '[{"devices": 4, "back_end": "pool+linear", "training": {"sharding": "fsdp"}}]'

Each case is trained on the first `devices` devices; `training` has fields of the training configuration.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import numpy as np
from flax import nnx

from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training import lora
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

STEPS = 3


def share_of_device(leaves: dict[str, jax.Array]) -> dict[str, float]:
    """Which share of each array one device has."""
    return {path: leaf.addressable_shards[0].data.size / leaf.size for path, leaf in leaves.items()}


def train(devices: int, back_end: str, training: dict[str, Any]) -> dict[str, Any]:
    """Losses and gradient norms of the steps, the shares of weights, their average and both moments, and how many sums
    over devices the compiled step has inside loops and branches."""
    run = config(back_end, dropout=0.0, ema_decay=0.9, **training)
    model, options = run.model, run.training
    layout = Layout.of(options.sharding, jax.devices()[:devices])
    network = Network(model, options.precision, options)
    leaves = network.leaves(SpectraAASIST3(model, rngs=nnx.Rngs(params=0)))
    if options.lora is not None:
        leaves |= lora.init(leaves, options.lora, jax.random.key(1))
    optimizer = make_optimizer(options)
    state, frozen = first_state(network, leaves, options, optimizer, layout)
    step: Any = make_step(model, options, optimizer, layout)
    weights = np.array([0.7, 1.3], np.float32)[LABELS]
    examples = jax.device_put(Examples(WINDOWS[None], LABELS[None], weights[None]), layout.by_clip(axis=1))
    rates, key = jax.device_put(
        (LearningRates(np.float32(3e-3), np.float32(3e-3)), jax.random.key(0, impl="rbg")), layout.replicated
    )
    compiled = step.lower(state, frozen, examples, rates, key).compile()
    before_main, main = compiled.as_text().split("\nENTRY ")
    losses, norms = [], []
    for _ in range(STEPS):
        state, report = compiled(state, frozen, examples, rates, key)
        losses.append(float(report.loss))
        norms.append(float(report.gradient_norm))
    moments = state.optimizer[1]
    shares = [share_of_device(leaves) for leaves in (state.trained, state.ema, moments.mu, moments.nu)]
    nested = before_main.count(" all-reduce(")
    return {"losses": losses, "norms": norms, "shares": shares, "nested": nested, "sums": main.count(" all-reduce(")}


for case in json.loads(sys.argv[1]):
    print(json.dumps(train(**case)), flush=True)
