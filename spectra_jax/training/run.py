"""A training run in a directory: begun, gone on with, and what it leaves.

    DIR/run.json       what the run is: configuration, manifest, initial weights; another run is refused here
    DIR/log.jsonl      a line for each step and evaluation
    DIR/checkpoints/   the states to go on from (orbax): weights, statistics, optimiser, step
    DIR/best/          the best network so far, in the native format: `spectra-jax score --model DIR/best`

All randomness of a step follows from the seed and its number, so that a saved state needs no more to go on exactly.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp  # type: ignore[import-untyped]
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from spectra_jax.checkpoints.native import Checkpoint, replace_weights, write_native
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.devices import local_devices
from spectra_jax.errors import InputError, TrainingError
from spectra_jax.evaluation.metrics import eer
from spectra_jax.files.atomic import atomic_file, require_free, sweep
from spectra_jax.hub import CONFIG, WEIGHTS
from spectra_jax.inference.identity import encode_record, require_same
from spectra_jax.inference.prefetch import ahead
from spectra_jax.inference.scorer import hear
from spectra_jax.messages import count, examples
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training.augment import AugmentConfig
from spectra_jax.training.config import RunConfig, TrainingConfig
from spectra_jax.training.data import Batch, Batches, Clip, read_manifest
from spectra_jax.training.filterbank import filterbank
from spectra_jax.training.step import (
    Examples,
    LearningRates,
    Leaves,
    Network,
    TrainingState,
    cross_entropy,
    first_state,
    is_frozen,
    learning_rates,
    make_forward,
    make_optimizer,
    make_step,
)

RUN, LOG, CHECKPOINTS, BEST = "run.json", "log.jsonl", "checkpoints", "best"
_DECODERS = 4
_KEPT_STATES = 2
_FIRST = "encoder.feature_extractor.layers.0.conv.kernel"


@dataclass(frozen=True)
class StepEvent:
    """One step taken.

    Attributes:
      loss: class-weighted cross entropy of the batch.
      gradient_norm: global, before clipping.
      learning_rate: of the back-end, at this step.
      clips_per_second: since the step before.
      refused: why clips of the batch could not be heard, and others took their places.
    """

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    clips_per_second: float
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationEvent:
    """The dev split after so many steps.

    Attributes:
      loss: cross entropy, both classes counting the same.
      eer: 0 to 1.
      best: whether no evaluation before had a lower EER, or the same with a lower loss.
      refused: clips that could not be heard.
    """

    step: int
    loss: float
    eer: float
    best: bool
    refused: tuple[str, ...] = ()


Event = StepEvent | EvaluationEvent


class Run:
    """A training run, new or to be gone on with.

    Args:
      manifest: see `read_manifest`.
      output: the run's directory; new, empty, or that of the same run.
      config: network and training; with `init` the network is that of the checkpoint, whatever is in here.
      init: weights to start from, as `spectra_jax.load` takes them; random ones otherwise.
      devices: all of `jax.local_devices()` otherwise.

    Raises:
      InputError: the manifest or the directory cannot be used; another run's directory, naming what differs.
      ConfigError, CheckpointError, OSError: configuration or weights cannot be used.
      ValueError: float64 without x64, or a batch that the devices cannot share.
    """

    def __init__(
        self,
        manifest: str | Path,
        output: str | Path,
        config: RunConfig | None = None,
        *,
        init: str | Path | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        config = config or RunConfig()
        self._init = None if init is None else open_checkpoint(init)
        if self._init is not None:
            config = replace(config, model=self._init.config)
        self.config = config
        training = config.training
        Precision.of(training.precision).require_mode()
        devices = list(devices or local_devices())
        share = training.accumulation * len(devices)
        if training.batch_size % share:
            raise ValueError(
                f"training.batch_size = {training.batch_size} cannot be shared evenly by "
                f"{count(len(devices), 'device')} in {count(training.accumulation, 'part')}: "
                f"make it a multiple of {share}"
            )
        self._splits = read_manifest(manifest)
        self.output = Path(output)
        self._identity = self._identify(Path(manifest), init)
        self._open_directory()
        self._mesh = Mesh(np.array(devices), ("clips",))
        self._batches = Batches(self._splits["train"], config.model, training)
        self._network = Network(config.model, training.precision, training)
        self._manager = ocp.CheckpointManager(
            (self.output / CHECKPOINTS).resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=_KEPT_STATES, enable_async_checkpointing=False),
        )

    def _identify(self, manifest: Path, init: str | Path | None) -> dict[str, Any]:
        """What makes a run the same run. Where its files lie does not matter."""
        return {
            "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
            "init": None if init is None else str(init),
            "init_sha256": None if self._init is None else self._init.sha256(),
            **json.loads(self.config.to_json()),
        }

    def _open_directory(self) -> None:
        file = self.output / RUN
        # What a run that was killed left unfinished is not in the way.
        sweep(self.output)
        if not file.exists():
            require_free(self.output)
            self.output.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError), atomic_file(file, replace=False) as new:
                new.write(encode_record(self._identity))
        require_same(file.read_bytes(), self._identity, folder=str(self.output))

    @property
    def steps_done(self) -> int:
        """Steps of the latest saved state; 0 for a new run."""
        return self._manager.latest_step() or 0

    @property
    def num_clips(self) -> dict[str, int]:
        """Clips of each split."""
        return {split: len(clips) for split, clips in self._splits.items()}

    @property
    def num_trained(self) -> int:
        """Weights that are trained, of all."""
        shapes = self._network.shapes.items()
        return sum(
            math.prod(shape.shape)
            for path, shape in shapes
            if path not in self._network.statistics and not is_frozen(path, self.config.training)
        )

    def __iter__(self) -> Iterator[Event]:
        """Train to the last step, yielding what happens as it does. Stopping is fine at any time.

        Raises:
          TrainingError: the loss or its gradients are no longer finite; the step and its clips are named.
          OSError: the disk is full: the states that were saved before are whole.
        """
        training = self.config.training
        with ThreadPoolExecutor(_DECODERS, thread_name_prefix="spectra-jax-decode") as pool:
            try:
                yield from self._train(training, pool)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _train(self, training: TrainingConfig, pool: ThreadPoolExecutor) -> Iterator[Event]:
        whole = NamedSharding(self._mesh, P())
        optimizer = make_optimizer(training)
        state, frozen = first_state(self._network, self._initial(), training, optimizer)
        if not state.trained:
            raise InputError("nothing to train: every weight is frozen")
        state, best = self._restored(state)
        state, frozen = jax.device_put((state, frozen), whole)
        # Cheap to compile and to draw from; the bits may differ between kinds of devices.
        key = jax.device_put(jax.random.key(training.seed, impl="rbg"), whole)
        step = make_step(self.config.model, training, optimizer, self._mesh)
        forward = make_forward(self.config.model, training.precision, self._mesh)
        done = int(state.step)
        with _Log(self.output / LOG, done) as log:
            before = time.monotonic()
            for taken, batch in enumerate(self._batches.from_step(done, pool), start=done + 1):
                rates = learning_rates(training, taken - 1)
                state, report = step(state, frozen, *self._placed(batch, rates), key)
                loss, norm = float(report.loss), float(report.gradient_norm)
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise self._not_finite(taken, f"loss {loss}, gradient norm {norm}", batch)
                now = time.monotonic()
                speed = training.batch_size / (now - before)
                event = StepEvent(taken, loss, norm, rates.back_end, speed, batch.refused)
                before = now
                log.write(event)
                yield event
                if taken % training.evaluate_every == 0 or taken == training.steps:
                    scoring = {**frozen, **(state.average or state.trained), **state.statistics}
                    evaluation = self._evaluate(taken, forward, scoring, pool, best)
                    if not math.isfinite(evaluation.loss):
                        raise self._not_finite(taken, f"dev loss {evaluation.loss}", batch)
                    if evaluation.best:
                        best = (evaluation.eer, evaluation.loss)
                        self._export(scoring, evaluation)
                    log.write(evaluation)
                    log.sync()
                    self._save(state, best)
                    yield evaluation
                    before = time.monotonic()

    def _placed(self, batch: Batch, rates: LearningRates) -> tuple[Examples, LearningRates]:
        """A step's examples, each device its share, and its learning rates."""
        training, dtype = self.config.training, self._network.dtype
        shape = (training.accumulation, training.batch_size // training.accumulation)
        labels = batch.labels.reshape(shape)
        weights = np.array(self._class_weights, dtype)[labels]
        examples = Examples(batch.windows.reshape(*shape, -1).astype(dtype), labels, weights)
        by_clip = NamedSharding(self._mesh, P(None, "clips"))
        return (
            jax.device_put(examples, by_clip),
            jax.device_put(jax.tree.map(lambda rate: np.asarray(rate, dtype), rates), NamedSharding(self._mesh, P())),
        )

    def _initial(self) -> Leaves:
        if self._init is None:
            model = SpectraAASIST3(
                self.config.model,
                precision=self.config.training.precision,
                rngs=nnx.Rngs(params=self.config.training.seed),
            )
            leaves = self._network.leaves(model)
            if self.config.training.filterbank:
                leaves[_FIRST] = jnp.asarray(self._filterbank(), leaves[_FIRST].dtype)
            return leaves
        shapes = self._network.shapes
        return {path: jnp.asarray(array, shapes[path].dtype) for path, array in self._init}

    def _filterbank(self) -> np.ndarray:
        config, encoder = self.config.model, self.config.model.encoder
        plain = replace(self.config.training, augment=AugmentConfig())
        windows = Batches(self._splits["train"], config, plain).batch(0).windows
        shape = (encoder.conv_kernel[0], encoder.conv_dim[0], encoder.conv_stride[0])
        rng = np.random.default_rng(self.config.training.seed)
        return filterbank(windows, *shape, config.sample_rate, rng)

    @cached_property
    def _class_weights(self) -> tuple[float, float]:
        """What a spoof and a bona fide clip count."""
        training, clips = self.config.training, self._splits["train"]
        if training.class_weights != "balanced":
            return training.class_weights
        if training.pairs:
            return 1.0, 1.0
        bonafide = sum(clip.bonafide for clip in clips)
        return len(clips) / (2 * (len(clips) - bonafide)), len(clips) / (2 * bonafide)

    def _not_finite(self, step: int, what: str, batch: Batch) -> TrainingError:
        saved = self._manager.latest_step()
        return TrainingError(
            f"step {step}: {what}. The batch: {', '.join(batch.utterance_ids)}.\n"
            + (f"The last good state, of step {saved}, is kept" if saved else "No state was saved yet")
            + (f", and the best network so far is {self.output / BEST}" if (self.output / BEST).exists() else "")
            + ". A lower learning_rate or clip_norm, or more warmup_steps, may help; to change them, start another run."
        )

    def _evaluate(
        self, step: int, forward: Any, leaves: Leaves, pool: ThreadPoolExecutor, best: tuple[float, float] | None
    ) -> EvaluationEvent:
        logits, clips, refused = score_clips(
            self._splits["dev"], self.config, forward, leaves, NamedSharding(self._mesh, P("clips")), pool
        )
        bonafide = np.array([clip.bonafide for clip in clips], bool)
        if not bonafide.any() or bonafide.all():
            raise InputError(f"split `dev`: no clip of one class can be decoded:{examples(refused)}")
        losses = np.asarray(cross_entropy(jnp.asarray(logits), jnp.asarray(bonafide, jnp.int32)))
        loss = float((losses[bonafide].mean() + losses[~bonafide].mean()) / 2)
        finite = math.isfinite(loss)
        rate = eer(logits[bonafide, 1], logits[~bonafide, 1]).rate if finite else math.nan
        return EvaluationEvent(step, loss, rate, best is None or (rate, loss) < best, tuple(refused))

    def _export(self, leaves: Leaves, evaluation: EvaluationEvent) -> None:
        config = self.config.model
        provenance = {
            "trained_by": "spectra-jax train",
            "training_step": str(evaluation.step),
            "training_dev_eer": f"{evaluation.eer:.6f}",
            "training_manifest_sha256": self._identity["manifest_sha256"],
            "training_config_sha256": hashlib.sha256(self.config.to_json().encode()).hexdigest(),
        }
        if self._init is not None:
            provenance["training_init"] = f"{self._identity['init']} (sha256 {self._identity['init_sha256']})"
        read = {path: (lambda leaf=leaf: np.asarray(leaf)) for path, leaf in leaves.items()}
        path = self.output / BEST
        checkpoint = Checkpoint(config, read, f"step {evaluation.step}", path / WEIGHTS, provenance)
        if (path / CONFIG).exists():
            replace_weights(checkpoint, path)
        else:
            write_native(checkpoint, path)

    def _save(self, state: TrainingState, best: tuple[float, float] | None) -> None:
        items = {
            "state": ocp.args.StandardSave(_by_name(state)),
            "best": ocp.args.JsonSave(None if best is None else {"eer": best[0], "loss": best[1]}),
        }
        self._manager.save(int(state.step), args=ocp.args.Composite(**items), force=True)

    def _restored(self, state: TrainingState) -> tuple[TrainingState, tuple[float, float] | None]:
        """The latest saved state, or the one given where there is none."""
        latest = self._manager.latest_step()
        if latest is None:
            return state, None
        named = _by_name(state)
        try:
            items = ocp.args.Composite(state=ocp.args.StandardRestore(named), best=ocp.args.JsonRestore())
            saved = self._manager.restore(latest, args=items)
        except (ValueError, KeyError, OSError) as error:
            place = self.output / CHECKPOINTS / str(latest)
            raise InputError(
                f"{place}: the saved state cannot be read ({error}); remove this directory to go on from the one before"
            ) from error
        structure = jax.tree.structure(state)
        best = saved.best
        return (
            jax.tree.unflatten(structure, [saved.state[name] for name in named]),
            None if best is None else (best["eer"], best["loss"]),
        )


def score_clips(
    clips: Sequence[Clip],
    config: RunConfig,
    forward: Any,
    leaves: Leaves,
    sharding: NamedSharding,
    pool: ThreadPoolExecutor,
) -> tuple[np.ndarray, list[Clip], list[str]]:
    """Logits (n, 2) of the clips that can be heard, by their first windows; those clips; and why others cannot."""
    size = config.training.batch_size // config.training.accumulation
    heard = [future.result() for future in ahead((pool.submit(hear, clip, config.model) for clip in clips), size)]
    good = [clip for clip in heard if clip.window is not None]
    answers = [np.zeros((0, 2), np.float32)]
    for start in range(0, len(good), size):
        windows = np.stack([clip.window for clip in good[start : start + size] if clip.window is not None])
        padded = np.concatenate([windows, np.repeat(windows[-1:], size - len(windows), axis=0)])
        answers.append(np.asarray(forward(leaves, jax.device_put(padded, sharding)))[: len(windows)])
    refused = [f"{clip.trial.utterance_id}: {clip.error}" for clip in heard if clip.error is not None]
    return np.concatenate(answers), [clip.trial for clip in good], refused  # type: ignore[misc]


class _Log:
    """The run's log, from a step on: what was written after the state that the run goes on from is cut off."""

    def __init__(self, path: Path, done: int):
        self._path = path
        if path.exists():
            events = read_log(path)
            with atomic_file(path) as file:
                file.writelines(_line(event) for event in events if event.step <= done)
        self._file = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, event: Event) -> None:
        self._file.write(_line(event))

    def sync(self) -> None:
        self._file.flush()


def _line(event: Event) -> bytes:
    kind = "step" if isinstance(event, StepEvent) else "evaluation"
    return (json.dumps({"event": kind, **dataclasses.asdict(event)}) + "\n").encode()


def read_log(path: str | Path) -> list[Event]:
    """The events of a run's log, in order; a last line that was cut short is left out."""
    events: list[Event] = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            break
        kind = {"step": StepEvent, "evaluation": EvaluationEvent}[values.pop("event")]
        events.append(kind(**{**values, "refused": tuple(values["refused"])}))
    return events


def _by_name(state: TrainingState) -> dict[str, Any]:
    """A state's arrays by the names of their places in it."""
    return {jax.tree_util.keystr(place): leaf for place, leaf in jax.tree_util.tree_leaves_with_path(state)}
