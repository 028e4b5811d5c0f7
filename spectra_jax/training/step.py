"""One training step as a pure function, and what it changes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import SpectraAASIST3, abstract_model
from spectra_jax.training.config import TrainingConfig

Leaves = dict[str, jax.Array]
"""Arrays by their Flax paths, such as `encoder.layers.0.attention.query.kernel`."""

_AXIS = "clips"


class TrainingState(NamedTuple):
    """All that a step changes. With the seed and the manifest it is all that a run goes on from."""

    step: jax.Array
    """() int32, steps taken."""
    trained: Leaves
    """The weights that are trained."""
    statistics: Leaves
    """Running statistics of the batch norms."""
    optimizer: Any
    average: Leaves
    """Moving average of `trained`; empty where none is kept."""


class StepReport(NamedTuple):
    """() arrays: class-weighted cross entropy of the batch, and the gradients' global norm before clipping."""

    loss: jax.Array
    gradient_norm: jax.Array


class Network:
    """The network's architecture without its leaves, in training where `training` is given, else as it scores."""

    def __init__(self, config: SpectraConfig, precision: str, training: TrainingConfig | None = None):
        model = abstract_model(config, precision)
        if training is not None:
            model.set_attributes(deterministic=False, use_running_average=False, axis_name=_AXIS)
            model.encoder.remat = training.remat
            for _, part in nnx.iter_modules(model):
                if isinstance(part, nnx.Dropout):
                    part.rate *= training.dropout
        self._graph, state = nnx.split(model)
        leaves, self._structure = jax.tree.flatten(state)
        variables = {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
        self.shapes = dict(zip(variables, leaves, strict=True))
        self.dtype = model.precision.dtype
        self.statistics = frozenset(path for path, kind in variables.items() if isinstance(kind, nnx.BatchStat))

    def model(self, leaves: Mapping[str, jax.Array]) -> SpectraAASIST3:
        state = jax.tree.unflatten(self._structure, [leaves[path] for path in self.shapes])
        # Copies, since batch norms that train write to their statistics.
        return nnx.merge(self._graph, state, copy=True)

    def leaves(self, model: SpectraAASIST3) -> Leaves:
        return dict(zip(self.shapes, jax.tree.leaves(nnx.state(model)), strict=True))


def is_frozen(path: str, training: TrainingConfig) -> bool:
    """Whether a weight keeps its value: see `TrainingConfig.freeze`."""
    place = path.split(".")
    if place[0] != "encoder":
        return False
    if training.freeze == "encoder":
        return True
    if place[1] == "layers":
        return int(place[2]) < training.freeze_layers
    # What comes before the first layer is frozen with it; the norm after the last one is not.
    before = place[1] in ("feature_extractor", "feature_projection", "positional_convolution")
    return before and (
        training.freeze_layers > 0 or (training.freeze == "feature_extractor" and place[1] == "feature_extractor")
    )


def decays(path: str) -> bool:
    """Whether weight decay pulls at a weight: products' weights and spline coefficients, and nothing else.

    Not at norms, biases, positions, master nodes or the slopes of PReLUs. The splines' grid is no weight here at all.
    """
    last = path.rsplit(".", 1)[-1]
    return last == "kernel" or last == "spline_scaler" or "weight" in last


def make_optimizer(training: TrainingConfig) -> optax.GradientTransformation:
    """AdamW on {path: weight}, clipped by global norm; its updates are for a learning rate of -1."""
    return optax.chain(
        optax.identity() if training.clip_norm is None else optax.clip_by_global_norm(training.clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(training.weight_decay, mask=lambda tree: {path: decays(path) for path in tree}),
    )


class LearningRates(NamedTuple):
    """Of one step: () floats for the encoder and for everything after it."""

    encoder: Any
    back_end: Any


def learning_rates(training: TrainingConfig, step: int) -> LearningRates:
    """From zero to the configured ones over the warm-up, and to zero again along half a cosine at the last step."""
    if training.rising_steps == 0:
        share = optax.cosine_decay_schedule(1.0, training.steps)
    else:
        share = optax.warmup_cosine_decay_schedule(0.0, 1.0, training.rising_steps, training.steps)
    now = float(share(step))
    return LearningRates(now * training.encoder_learning_rate, now * training.learning_rate)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each clip, (n,): logits (n, 2), labels (n,) 0 = spoof, 1 = bona fide."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def first_state(
    network: Network, leaves: Leaves, training: TrainingConfig, optimizer: optax.GradientTransformation
) -> tuple[TrainingState, Leaves]:
    """The state before the first step, and the weights that are frozen. Its arrays are copies: steps use them up."""
    kept = {path for path in leaves if path not in network.statistics and is_frozen(path, training)}
    leaves = jax.tree.map(jnp.copy, leaves)
    trained = {path: leaf for path, leaf in leaves.items() if path not in kept | network.statistics}
    state = TrainingState(
        step=jnp.zeros((), jnp.int32),
        trained=trained,
        statistics={path: leaf for path, leaf in leaves.items() if path in network.statistics},
        optimizer=optimizer.init(trained),
        average=jax.tree.map(jnp.copy, trained) if training.average else {},
    )
    return state, {path: leaf for path, leaf in leaves.items() if path in kept}


class Examples(NamedTuple):
    """What a step learns from, in the parts that it is worked on in, one after another.

    Attributes:
      windows: (parts, n, num_samples).
      labels: (parts, n) int32, 0 = spoof, 1 = bona fide.
      weights: (parts, n), what each clip counts in the cross entropy.
    """

    windows: Any
    labels: Any
    weights: Any


Step = Callable[[TrainingState, Leaves, Examples, LearningRates, jax.Array], tuple[TrainingState, StepReport]]


def make_step(
    config: SpectraConfig, training: TrainingConfig, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Step:
    """The compiled step: (state, frozen weights, examples, learning rates, key) -> (new state, report).

    Each device works on its share of every part of the batch, and what needs the whole of it (the loss, the batch
    norms' statistics, the gradients) is summed over the devices: any number of them takes the same step but for
    rounding and dropout. The state's memory is given away.
    """
    network = Network(config, training.precision, training)

    def loss_of(trained: Leaves, rest: Leaves, examples: Examples, key: jax.Array) -> Any:
        model = network.model({**trained, **rest})
        key = jax.random.fold_in(key, lax.axis_index(_AXIS))
        logits = model(examples.windows, rngs=nnx.Rngs(dropout=key))
        leaves = network.leaves(model)
        loss = lax.psum(jnp.sum(examples.weights * cross_entropy(logits, examples.labels)), _AXIS)
        return loss, {path: leaves[path] for path in network.statistics}

    def step(
        state: TrainingState, frozen: Leaves, examples: Examples, rates: LearningRates, key: jax.Array
    ) -> tuple[TrainingState, StepReport]:
        def part(carry: Any, now: Any) -> Any:
            statistics, total, gradients = carry
            (loss, statistics), new = jax.value_and_grad(loss_of, has_aux=True)(
                state.trained, {**frozen, **statistics}, *now
            )
            return (statistics, total + loss, jax.tree.map(jnp.add, gradients, new)), None

        num_parts = len(examples.labels)
        parts = examples, jax.random.split(jax.random.fold_in(key, state.step), num_parts)
        start = state.statistics, jnp.zeros((), examples.weights.dtype), jax.tree.map(jnp.zeros_like, state.trained)
        if num_parts == 1:  # without a loop: XLA has no fast convolution inside one on a CPU
            (statistics, total, gradients), _ = part(start, jax.tree.map(operator.itemgetter(0), parts))
        else:
            (statistics, total, gradients), _ = lax.scan(part, start, parts)
        weight = lax.psum(jnp.sum(examples.weights), _AXIS)
        gradients = jax.tree.map(lambda gradient: gradient / weight, gradients)
        # Optax counts steps in whole numbers, which a program that has strict promotion set would refuse.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(gradients, state.optimizer, state.trained)
        trained = {
            path: leaf - (rates.encoder if path.startswith("encoder.") else rates.back_end) * updates[path]
            for path, leaf in state.trained.items()
        }
        # Early on, an average of few steps: it would otherwise keep much of the initial weights for long.
        keep = jnp.minimum(training.average, (1 + state.step) / (10 + state.step)).astype(weight.dtype)
        average = {path: keep * leaf + (1 - keep) * trained[path] for path, leaf in state.average.items()}
        new_state = TrainingState(state.step + 1, trained, statistics, moments, average)
        return new_state, StepReport(total / weight, optax.tree.norm(gradients))

    by_clip = P(None, _AXIS)
    shared = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(), by_clip, P(), P()), out_specs=(P(), P()))
    return jax.jit(shared, donate_argnums=0)


def make_forward(config: SpectraConfig, precision: str, mesh: Mesh) -> Callable[[Leaves, jax.Array], jax.Array]:
    """The compiled network as it scores: (leaves, windows (n, num_samples)) -> logits (n, 2); n over the devices."""
    network = Network(config, precision)

    def forward(leaves: Leaves, windows: jax.Array) -> jax.Array:
        return network.model(leaves)(windows)

    return jax.jit(jax.shard_map(forward, mesh=mesh, in_specs=(P(), P(_AXIS)), out_specs=P(_AXIS)))
