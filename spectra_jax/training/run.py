"""A training run in a directory.

    DIR/run.json       the identity of the run: configuration, manifest, initial weights
    DIR/log.jsonl      a line for each step and evaluation
    DIR/checkpoints/   the latest saved states (orbax): weights, batch norm statistics, optimiser, step
    DIR/best/          the best network so far, in the native format: `spectra-jax score --model DIR/best`

All randomness of a step follows from the seed and the step's number, so that a run that is resumed from a saved state
gives the same numbers as one that was never interrupted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from spectra_jax.devices import local_devices
from spectra_jax.errors import InputError, TrainingError
from spectra_jax.files.atomic import atomic_file, require_free, sweep
from spectra_jax.inference.engine import return_freed_memory
from spectra_jax.inference.identity import encode_record, require_same
from spectra_jax.messages import count
from spectra_jax.model.precision import Precision
from spectra_jax.training import lora
from spectra_jax.training.config import OLD_NAMES, RunConfig, TrainingConfig
from spectra_jax.training.data import Batch, Batches, class_weights, read_manifest
from spectra_jax.training.evaluate import Evaluator
from spectra_jax.training.export import BEST, export_best
from spectra_jax.training.initial_weights import Start, initial_weights, open_start, with_start
from spectra_jax.training.log import LOG, EvaluationEvent, Event, Log, StepEvent
from spectra_jax.training.losses import require_fitting_head
from spectra_jax.training.sharding import Layout
from spectra_jax.training.state import Score, StateStore
from spectra_jax.training.step import (
    Examples,
    LearningRates,
    Leaves,
    Network,
    TrainingState,
    first_state,
    is_frozen,
    learning_rates,
    make_forward,
    make_optimizer,
    make_step,
)

RUN = "run.json"
_DECODER_THREADS = 4


class Run:
    """A training run: a new one, or an interrupted one that is resumed.

    Args:
      manifest: see `read_manifest`.
      output: the run's directory: new, empty, or the directory of the same run.
      config: network and training. With `init` the network is the checkpoint's, whatever `config.model` is; with
        `encoder`, `config.model.encoder` is the encoder's.
      init: a detector to start from, as `spectra_jax.load` takes it; random weights by default.
      encoder: a pretrained encoder to start from, as `spectra_jax.encoders.from_pretrained` takes it; bridge and
        back-end then start from random weights. Not together with `init`.
      encoder_layers: how many of the encoder's layers to take, from the first on; all by default.
      devices: all of `jax.local_devices()` by default.

    Raises:
      InputError: the manifest or the directory cannot be used; the directory holds another run, and what differs.
      ConfigError, CheckpointError, OSError: configuration or weights cannot be used.
      ValueError: float64 without x64, a batch that cannot be divided by the devices, or arguments that exclude each
        other.
    """

    def __init__(
        self,
        manifest: str | Path,
        output: str | Path,
        config: RunConfig | None = None,
        *,
        init: str | Path | None = None,
        encoder: str | Path | None = None,
        encoder_layers: int | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        self._start = open_start(init, encoder, encoder_layers)
        self.config = config = with_start(config or RunConfig(), self._start)
        require_fitting_head(config.training, config.model)
        Precision.of(config.training.precision).require_mode()
        devices = list(devices or local_devices())
        self._layout = Layout.of(config.training.sharding, devices)
        _require_divisible(config.training, self._layout.num_clip_shards)
        self._splits = read_manifest(manifest)
        self._batches = Batches(self._splits["train"], config.model, config.training)
        self._class_weights = class_weights(self._splits["train"], config.training)
        self.output = Path(output)
        self._identity = _identity(Path(manifest), self._start, config)
        _open_directory(self.output, self._identity)
        self._network = Network(config.model, config.training.precision, config.training)
        self._layout.specs(self._network.shapes)  # An error before anything is computed.
        self._states = StateStore(self.output)

    @property
    def steps_done(self) -> int:
        """Steps of the latest saved state; 0 for a new run."""
        return self._states.latest_step or 0

    @property
    def num_clips(self) -> dict[str, int]:
        """Clips of each split."""
        return {split: len(clips) for split, clips in self._splits.items()}

    @property
    def group_sizes(self) -> dict[str, int]:
        """Clips of each group that `TrainingConfig.balance` draws equally often; empty without it."""
        return {group.name: len(group.clips) for group in self._batches.groups if group.name}

    @property
    def num_trained(self) -> int:
        """How many weights are trained: all but the frozen ones, and adapters."""
        shapes = jax.eval_shape(self._with_adapters, self._network.shapes)
        return sum(
            math.prod(shape.shape)
            for path, shape in shapes.items()
            if path not in self._network.statistics and not is_frozen(path, self.config.training)
        )

    def __iter__(self) -> Iterator[Event]:
        """Train to the last step, and yield an event for each step and evaluation. It may be stopped at any time.

        Raises:
          TrainingError: a non-finite loss or gradient; the message names the step and its clips.
          OSError: the disk is full, or the like: the states that were saved before are complete.
        """
        with ThreadPoolExecutor(_DECODER_THREADS, thread_name_prefix="spectra-jax-decode") as pool:
            try:
                yield from self._train(pool)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _train(self, pool: ThreadPoolExecutor) -> Iterator[Event]:
        training = self.config.training
        state, frozen, best = self._restore()
        step = make_step(self.config.model, training, make_optimizer(training), self._layout)
        evaluator, merge = self._evaluator(pool), self._make_merge()
        # Cheap to compile and to draw from; its numbers may differ between kinds of devices.
        key = jax.device_put(jax.random.key(training.seed, impl="rbg"), self._layout.replicated)
        steps_done = int(state.step)
        batches = self._batches.from_step(steps_done, pool)
        with Log(self.output / LOG, steps_done) as log:
            before = time.monotonic()
            for number, batch in enumerate(batches, start=steps_done + 1):
                rates = learning_rates(training, number - 1)
                state, report = step(state, frozen, *self._put_on_devices(batch, rates), key)
                loss, norm = float(report.loss), float(report.gradient_norm)
                if number == steps_done + 1:
                    return_freed_memory()  # of the compiler: more than a small network's step takes
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise self._not_finite(number, f"non-finite loss ({loss}) or gradient norm ({norm})", batch)
                now = time.monotonic()
                speed = training.batch_size / (now - before)
                event = StepEvent(number, loss, norm, rates.back_end, speed, batch.skipped)
                before = now
                log.write(event)
                yield event
                if number % training.evaluate_every == 0 or number == training.steps:
                    weights = merge({**frozen, **(state.ema or state.trained), **state.statistics})
                    evaluation = self._evaluate(evaluator, number, weights, best, batch)
                    if evaluation.best:
                        best = Score(evaluation.eer, evaluation.loss)
                        export_best(self.output, self.config, self._identity, weights, evaluation)
                    log.write(evaluation)
                    log.flush()
                    self._states.save(state, best)
                    yield evaluation
                    before = time.monotonic()

    def _restore(self) -> tuple[TrainingState, Leaves, Score | None]:
        """The state to continue from, on all devices; the frozen weights; and the best score so far."""
        training = self.config.training
        leaves = initial_weights(self.config, self._network, self._start, self._splits["train"])
        leaves = self._with_adapters(leaves)
        state, frozen = first_state(self._network, leaves, training, make_optimizer(training), self._layout)
        if not state.trained:
            raise InputError("nothing to train: every weight is frozen")
        state, best = self._states.restore(state)
        return state, frozen, best

    def _with_adapters(self, leaves: Leaves) -> Leaves:
        """The network's arrays and, with LoRA, new adapters."""
        training = self.config.training
        if training.lora is None:
            return leaves
        # Not the key of dropout, nor that of the initial weights.
        key = jax.random.fold_in(jax.random.key(training.seed), 1)
        return {**leaves, **lora.init(leaves, training.lora, key, first_layer=training.freeze_layers)}

    def _make_merge(self) -> Callable[[Leaves], Leaves]:
        """The compiled function from trained and frozen arrays to those of an ordinary network in the same layout."""
        config = self.config.training.lora
        if config is None:
            return dict
        return jax.jit(
            functools.partial(lora.merge, config=config), out_shardings=self._layout.shardings(self._network.shapes)
        )

    def _evaluator(self, pool: ThreadPoolExecutor) -> Evaluator:
        forward = make_forward(self.config.model, self.config.training.precision, self._layout)
        return Evaluator(self._splits["dev"], self.config, forward, self._layout.by_clip(axis=0), pool)

    def _evaluate(
        self, evaluator: Evaluator, step: int, weights: Leaves, best: Score | None, batch: Batch
    ) -> EvaluationEvent:
        result = evaluator.evaluate(weights)
        if not math.isfinite(result.loss):
            raise self._not_finite(step, f"non-finite dev loss ({result.loss})", batch)
        is_best = best is None or Score(result.eer, result.loss) < best
        return EvaluationEvent(step, result.loss, result.eer, is_best, result.skipped)

    def _put_on_devices(self, batch: Batch, rates: LearningRates) -> tuple[Examples, LearningRates]:
        """A step's examples, divided among the devices, and its learning rates."""
        training, dtype = self.config.training, self._network.dtype
        shape = (training.accumulation, training.batch_size // training.accumulation)
        labels = batch.labels.reshape(shape)
        weights = np.array(self._class_weights, dtype)[labels]
        examples = Examples(batch.windows.reshape(*shape, -1).astype(dtype), labels, weights)
        return (
            jax.device_put(examples, self._layout.by_clip(axis=1)),
            jax.device_put(jax.tree.map(lambda rate: np.asarray(rate, dtype), rates), self._layout.replicated),
        )

    def _not_finite(self, step: int, problem: str, batch: Batch) -> TrainingError:
        saved = self._states.latest_step
        return TrainingError(
            f"step {step}: {problem}. The clips of the batch: {', '.join(batch.utterance_ids)}.\n"
            + (f"The state of step {saved} is saved" if saved else "No state was saved yet")
            + (f", and the best network so far is {self.output / BEST}" if (self.output / BEST).exists() else "")
            + ". A lower learning_rate or clip_norm, or more warmup_steps, may help; start a new run to change them."
        )


def _require_divisible(training: TrainingConfig, num_devices: int) -> None:
    """Raise ValueError unless each micro-batch can be divided evenly among the devices of the axes of clips."""
    divisor = training.accumulation * num_devices
    if training.batch_size % divisor:
        raise ValueError(
            f"training.batch_size = {training.batch_size} cannot be divided evenly among "
            f"{count(num_devices, 'device')} with accumulation = {training.accumulation}: make it a multiple of "
            f"{divisor}"
        )


def _identity(manifest: Path, start: Start, config: RunConfig) -> dict[str, Any]:
    """What identifies a run. The location of its files does not matter, nor how devices share its weights."""
    init, encoder = start.init, start.encoder
    config = replace(config, training=replace(config.training, sharding=None))
    record = {
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "init": None if init is None else init.name,
        "init_sha256": None if init is None else init.sha256(),
        **json.loads(config.to_json()),
    }
    # Without an encoder the record is that of earlier versions.
    return record if encoder is None else {**record, "encoder": encoder.name, "encoder_sha256": encoder.sha256()}


def _open_directory(output: Path, identity: dict[str, Any]) -> None:
    """Create the run's directory and its `run.json`, or check that they are of this run.

    Raises:
      InputError: the directory holds another run.
      FileExistsError: the directory holds something else.
    """
    file = output / RUN
    sweep(output)
    if not file.exists():
        require_free(output)
        output.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), atomic_file(file, replace=False) as new:
            new.write(encode_record(identity))
    record = file.read_bytes()
    require_same(record, _with_recorded_names(identity, record), folder=str(output))


def _with_recorded_names(identity: dict[str, Any], record: bytes) -> dict[str, Any]:
    """The identity with the fields' old names where an earlier version wrote the record."""
    try:
        recorded = json.loads(record)["training"]
        renamed = {new: old for old, new in OLD_NAMES.items() if old in recorded and new not in recorded}
    except (ValueError, KeyError, TypeError, RecursionError):
        return identity  # A damaged record, which `require_same` reports.
    training = {renamed.get(name, name): value for name, value in identity["training"].items()}
    return {**identity, "training": training}
