"""One training step as a pure function, and the state that it changes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec as P

from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import SpectraAASIST3, abstract_model
from spectra_jax.training import lora
from spectra_jax.training.config import TrainingConfig
from spectra_jax.training.losses import clip_losses
from spectra_jax.training.sharding import FSDP_AXIS, GATHERED, Layout, gather_when_read

Leaves = dict[str, jax.Array]
"""Arrays by their Flax paths, such as `encoder.layers.0.attention.query.kernel`."""


class TrainingState(NamedTuple):
    """All that a step changes. With the seed and the manifest it is all that is needed to resume a run."""

    step: jax.Array
    """() int32, steps taken."""
    trained: Leaves
    """The weights that are not frozen."""
    statistics: Leaves
    """Running statistics of the batch norms."""
    optimizer: Any
    ema: Leaves
    """Exponential moving average of `trained`; empty if `ema_decay` is 0."""


class StepReport(NamedTuple):
    """() arrays: class-weighted loss of the batch, and the global norm of the gradients before clipping."""

    loss: jax.Array
    gradient_norm: jax.Array


class Network:
    """The network's architecture, without its arrays.

    Args:
      config: of the network.
      precision: of the encoder's products.
      training: with it the network is in training mode (dropout, batch statistics), without it in inference mode.
      layout: with it the network is for a `jax.shard_map` over the layout's `clip_axes`, where each device has its
        shard of the arrays and a part of the clips.

    Attributes:
      shapes: shape and dtype of each array, by its path.
      dtype: of windows and logits.
      statistics: paths of the batch norms' running statistics. All other arrays are weights.
    """

    def __init__(
        self,
        config: SpectraConfig,
        precision: str,
        training: TrainingConfig | None = None,
        layout: Layout | None = None,
    ):
        model = abstract_model(config, precision)
        if training is not None:
            # A network may have no batch norms.
            model.set_attributes(
                raise_if_not_found=False,
                deterministic=False,
                use_running_average=False,
                axis_name=layout.clip_axes or None if layout else None,
            )
            model.encoder.remat = training.remat
            # Without a backward pass it is computed as in inference, which takes less time and memory.
            model.encoder.feature_extractor.deterministic = is_frozen("encoder.feature_extractor", training)
            for _, module in nnx.iter_modules(model):
                if isinstance(module, nnx.Dropout):
                    module.rate *= training.dropout
        if layout is not None:
            gather_when_read(model, layout)
        self._graph, state = nnx.split(model)
        leaves, self._structure = jax.tree.flatten(state)
        variables = {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}
        self.shapes = dict(zip(variables, leaves, strict=True))
        self.dtype = model.precision.dtype
        self.statistics = frozenset(path for path, kind in variables.items() if isinstance(kind, nnx.BatchStat))

    def model(self, leaves: Mapping[str, jax.Array]) -> SpectraAASIST3:
        """The network with these arrays."""
        state = jax.tree.unflatten(self._structure, [leaves[path] for path in self.shapes])
        # Copies, since batch norms in training mode write to their statistics.
        return nnx.merge(self._graph, state, copy=True)

    def leaves(self, model: SpectraAASIST3) -> Leaves:
        """The arrays of a network, by their paths."""
        return dict(zip(self.shapes, jax.tree.leaves(nnx.state(model)), strict=True))


def is_frozen(path: str, training: TrainingConfig) -> bool:
    """Whether a weight is not trained: see `TrainingConfig.freeze` and `freeze_layers`."""
    module, *names = path.split(".")
    if module != "encoder" or lora.is_adapter(path):
        return False
    if training.freeze == "encoder" or training.lora is not None:
        return True
    part = names[0]
    if part == "layers":
        return int(names[1]) < training.freeze_layers
    # The modules before the first layer are frozen with it; the norm after the last one is not.
    if part not in ("feature_extractor", "feature_projection", "positional_convolution"):
        return False
    if training.freeze == "first_convolution" and names[:4] == ["feature_extractor", "layers", "0", "conv"]:
        return True
    return training.freeze_layers > 0 or (training.freeze == "feature_extractor" and part == "feature_extractor")


def decays(path: str) -> bool:
    """Whether a weight is decayed: weights of products and spline coefficients are.

    Norms, biases, positions, master nodes and the slopes of PReLUs are not. The grid of the splines is not a weight.
    """
    last = path.rsplit(".", 1)[-1]
    return last in ("kernel", "spline_scaler") or "weight" in last or lora.is_adapter(path)


def make_optimizer(training: TrainingConfig) -> optax.GradientTransformation:
    """AdamW on {path: weight} with clipping by the global norm. An update is to be multiplied by minus the rate."""
    return optax.chain(
        optax.identity() if training.clip_norm is None else _clip_by_global_norm(training.clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(training.weight_decay, mask=lambda tree: {path: decays(path) for path in tree}),
    )


def _clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm` without a division of arrays, whose results XLA would write to memory."""

    def clip(gradients: Leaves, state: optax.EmptyState, _: Leaves | None = None) -> tuple[Leaves, optax.EmptyState]:
        factor = jnp.minimum(1, max_norm / optax.tree.norm(gradients))
        return jax.tree.map(lambda gradient: gradient * factor, gradients), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), clip)


class LearningRates(NamedTuple):
    """The learning rates of one step, () floats: of the encoder, and of all layers after it."""

    encoder: Any
    back_end: Any


def learning_rates(training: TrainingConfig, step: int) -> LearningRates:
    """The rates of a step (counted from 0): linear warm-up from zero, then half a cosine to zero at the last step."""
    if training.effective_warmup_steps == 0:
        schedule = optax.cosine_decay_schedule(1.0, training.steps)
    else:
        schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, training.effective_warmup_steps, training.steps)
    factor = float(schedule(step))
    return LearningRates(factor * training.encoder_learning_rate, factor * training.learning_rate)


def first_state(
    network: Network,
    leaves: Leaves,
    training: TrainingConfig,
    optimizer: optax.GradientTransformation,
    layout: Layout,
) -> tuple[TrainingState, Leaves]:
    """The state before the first step, and the frozen weights, each array where the layout has it.

    Both are copies, since a step donates its state. With LoRA, `leaves` includes the adapters.
    """

    def split(leaves: Leaves) -> tuple[TrainingState, Leaves]:
        frozen = {path for path in leaves if path not in network.statistics and is_frozen(path, training)}
        leaves = jax.tree.map(jnp.copy, leaves)
        trained = {path: leaf for path, leaf in leaves.items() if path not in frozen | network.statistics}
        state = TrainingState(
            step=jnp.zeros((), jnp.int32),
            trained=trained,
            statistics={path: leaf for path, leaf in leaves.items() if path in network.statistics},
            optimizer=optimizer.init(trained),
            ema=jax.tree.map(jnp.copy, trained) if training.ema_decay else {},
        )
        return state, {path: leaf for path, leaf in leaves.items() if path in frozen}

    shardings = layout.shardings(jax.eval_shape(split, leaves))
    leaves = jax.device_put(leaves, layout.shardings(leaves))
    state: tuple[TrainingState, Leaves] = jax.jit(split, out_shardings=shardings)(leaves)
    return state


class Examples(NamedTuple):
    """The batch of a step, split into micro-batches (gradient accumulation).

    Attributes:
      windows: (micro-batches, clips, num_samples).
      labels: (micro-batches, clips) int32, 0 = spoof, 1 = bona fide.
      weights: (micro-batches, clips), of each clip in the loss.
    """

    windows: Any
    labels: Any
    weights: Any


Step = Callable[[TrainingState, Leaves, Examples, LearningRates, jax.Array], tuple[TrainingState, StepReport]]


def make_step(
    config: SpectraConfig, training: TrainingConfig, optimizer: optax.GradientTransformation, layout: Layout
) -> Step:
    """The compiled step: (state, frozen weights, examples, learning rates, key) -> (new state, report).

    The clips of each micro-batch are divided among the devices. The loss, the batch norms' statistics and the gradients
    are summed over the devices: their number and the layout change a step by rounding and dropout only. Gradients,
    moments and the average are sharded like their weights. The state is donated.
    """
    gradients_of = _make_gradients(Network(config, training.precision, training, layout), training, layout)

    def step(
        state: TrainingState, frozen: Leaves, examples: Examples, rates: LearningRates, key: jax.Array
    ) -> tuple[TrainingState, StepReport]:
        statistics, loss, gradients = gradients_of(state, frozen, examples, jax.random.fold_in(key, state.step))
        total_weight = jnp.sum(examples.weights)
        # A factor rather than a divisor: XLA writes quotients to memory, and computes products where they are used.
        scale = 1 / total_weight
        gradients = jax.tree.map(lambda gradient: gradient * scale, gradients)
        # Optax promotes the type of its step counter, which strict promotion would make an error.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(gradients, state.optimizer, state.trained)
        trained = {
            path: leaf - (rates.encoder if path.startswith("encoder.") else rates.back_end) * updates[path]
            for path, leaf in state.trained.items()
        }
        # A lower decay in the first steps, or the average would keep much of the initial weights for long.
        decay = jnp.minimum(training.ema_decay, (1 + state.step) / (10 + state.step)).astype(total_weight.dtype)
        ema = {path: decay * leaf + (1 - decay) * trained[path] for path, leaf in state.ema.items()}
        new_state = TrainingState(state.step + 1, trained, statistics, moments, ema)
        new_state = lax.with_sharding_constraint(new_state, layout.shardings(new_state))
        return new_state, StepReport(loss / total_weight, optax.tree.norm(gradients))

    return jax.jit(step, donate_argnums=0)


_Gradients = Callable[[TrainingState, Leaves, Examples, jax.Array], tuple[Leaves, jax.Array, Leaves]]


def _make_gradients(network: Network, training: TrainingConfig, layout: Layout) -> _Gradients:
    """(state, frozen weights, examples, key) -> (new statistics, summed loss, summed gradients)."""
    clip_axes = layout.clip_axes

    def loss_of(
        trained: Leaves, others: Leaves, examples: Examples, key: jax.Array, specs: dict[str, P]
    ) -> tuple[jax.Array, Leaves]:
        trained = layout.summed_here(trained, specs)
        model = network.model(lora.merge({**trained, **others}, training.lora))
        key = jax.random.fold_in(key, lax.axis_index(clip_axes) if clip_axes else 0)
        logits = model(examples.windows, rngs=nnx.Rngs(dropout=key))
        leaves = network.leaves(model)
        loss = lax.psum(jnp.sum(examples.weights * clip_losses(logits, examples.labels, training)), clip_axes)
        return loss, {path: leaves[path] for path in network.statistics}

    if FSDP_AXIS in layout.mesh.axis_names and not training.remat:
        # Otherwise all gathered weights would be stored until the backward pass.
        policy = jax.checkpoint_policies.save_anything_except_these_names(GATHERED)
        loss_of = jax.checkpoint(loss_of, policy=policy, static_argnums=4)

    def gradients_of(
        specs: dict[str, P], trained: Leaves, statistics: Leaves, frozen: Leaves, examples: Examples, key: jax.Array
    ) -> tuple[Leaves, jax.Array, Leaves]:
        def add_micro_batch(sums: Any, micro_batch: tuple[Examples, jax.Array]) -> Any:
            statistics, total_loss, total = sums
            (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(
                trained, {**frozen, **statistics}, *micro_batch, specs
            )
            return (statistics, total_loss + loss, jax.tree.map(jnp.add, total, gradients)), None

        num_micro_batches = len(examples.labels)
        micro_batches = examples, jax.random.split(key, num_micro_batches)
        zeros = jnp.zeros((), examples.weights.dtype), jax.tree.map(jnp.zeros_like, trained)
        sums = statistics, *zeros
        if num_micro_batches == 1:  # Without a loop: on CPUs XLA has no fast convolution inside one.
            sums, _ = add_micro_batch(sums, jax.tree.map(operator.itemgetter(0), micro_batches))
        else:
            sums, _ = lax.scan(add_micro_batch, sums, micro_batches)
        return sums

    def on_devices(
        state: TrainingState, frozen: Leaves, examples: Examples, key: jax.Array
    ) -> tuple[Leaves, jax.Array, Leaves]:
        trained, statistics, others = layout.manual_specs((state.trained, state.statistics, frozen))
        in_specs = trained, statistics, others, layout.clip_spec(axis=1), P()
        mapped = layout.map_clips(functools.partial(gradients_of, trained), in_specs, (statistics, P(), trained))
        result: tuple[Leaves, jax.Array, Leaves] = mapped(state.trained, state.statistics, frozen, examples, key)
        return result

    return on_devices


def make_forward(config: SpectraConfig, precision: str, layout: Layout) -> Callable[[Leaves, jax.Array], jax.Array]:
    """The compiled network in inference mode: (arrays, windows (clips, num_samples)) -> logits (clips, 2).

    The clips are divided among the devices.
    """
    network = Network(config, precision, layout=layout)

    def forward(leaves: Leaves, windows: jax.Array) -> jax.Array:
        by_clip = layout.clip_spec(axis=0)
        mapped = layout.map_clips(
            lambda leaves, windows: network.model(leaves)(windows), (layout.manual_specs(leaves), by_clip), by_clip
        )
        logits: jax.Array = mapped(leaves, windows)
        return logits

    return jax.jit(forward)
