"""One training step on a fixed batch."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training import RunConfig
from spectra_jax.training.sharding import Layout
from spectra_jax.training.step import (
    Examples,
    LearningRates,
    Network,
    StepReport,
    TrainingState,
    first_state,
    make_optimizer,
    make_step,
)

WINDOWS = np.random.default_rng(5).standard_normal((8, 4000)).astype(np.float32) * 0.1
LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 0], np.int32)
HALVES = np.concatenate([WINDOWS[:4]] * 2), np.concatenate([LABELS[:4]] * 2), (0.3, 1.7)
"""A batch of two equal halves: the batch norms have the same statistics in a half and in the complete batch."""


def take_step(
    settings: RunConfig,
    windows: np.ndarray,
    labels: np.ndarray,
    weights: tuple[float, float] = (1.0, 1.0),
    devices: Sequence[jax.Device] | None = None,
) -> tuple[TrainingState, TrainingState, StepReport]:
    """One step on windows (n, samples): the state before it, the one after, and its report."""
    devices = devices or jax.devices()
    training = settings.training
    network = Network(settings.model, training.precision, training)
    leaves = network.leaves(SpectraAASIST3(settings.model, precision=training.precision, rngs=nnx.Rngs(params=0)))
    optimizer = make_optimizer(training)
    layout = Layout.of(training.sharding, devices)
    before, frozen = first_state(network, leaves, training, optimizer, layout)
    shape = (training.accumulation, len(windows) // training.accumulation)
    labels = labels.reshape(shape)
    examples = Examples(windows.reshape(*shape, -1), labels, np.array(weights, np.float32)[labels])
    arguments = LearningRates(np.float32(3e-3), np.float32(3e-3)), jax.random.key(0, impl="rbg")
    copy = jax.tree.map(np.array, before)  # a step donates its state
    # On the devices as in a run, so that both use one compiled program.
    rates, key = jax.device_put(arguments, layout.replicated)
    examples = jax.device_put(examples, layout.by_clip(axis=1))
    after, report = make_step(settings.model, training, optimizer, layout)(before, frozen, examples, rates, key)
    return copy, after, report
