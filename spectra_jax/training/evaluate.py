"""The evaluation of a network on the dev split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Float32

from spectra_jax.errors import InputError
from spectra_jax.evaluation.metrics import eer
from spectra_jax.inference.decoding import decode_trial
from spectra_jax.inference.prefetch import prefetch
from spectra_jax.messages import examples
from spectra_jax.training.config import RunConfig
from spectra_jax.training.losses import clip_losses
from spectra_jax.training.sampling import Clip
from spectra_jax.training.step import Leaves


@dataclass(frozen=True)
class DevLogits:
    """The network's output for the first window of each clip.

    Attributes:
      logits: (clips, 2): spoof, bona fide.
      bonafide: (clips,) whether each clip is labelled as bona fide.
      skipped: for each clip that could not be decoded, the reason.
    """

    logits: Float32[np.ndarray, "clips 2"]
    bonafide: np.ndarray
    skipped: list[str]


@dataclass(frozen=True)
class DevResult:
    """The figures of the dev split.

    Attributes:
      loss: the training's loss, with the same weight for both classes; may be non-finite.
      eer: from 0 to 1; NaN where the loss is non-finite.
      skipped: for each clip that could not be decoded, the reason.
    """

    loss: float
    eer: float
    skipped: tuple[str, ...]


class Evaluator:
    """Evaluates networks on a run's dev split.

    Args:
      clips: of the dev split.
      config: of the run.
      forward: the compiled network: see `make_forward`.
      sharding: of windows (n, num_samples) over the devices.
      pool: decodes the clips.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        config: RunConfig,
        forward: Callable[[Leaves, jax.Array], jax.Array],
        sharding: NamedSharding,
        pool: ThreadPoolExecutor,
    ):
        self._clips, self._config = clips, config
        self._forward, self._sharding, self._pool = forward, sharding, pool

    def evaluate(self, leaves: Leaves) -> DevResult:
        """The figures of a network with these weights.

        Raises:
          InputError: no clip of one class can be decoded.
        """
        scored = self.score(leaves)
        bonafide = scored.bonafide
        if not bonafide.any() or bonafide.all():
            raise InputError(f"split `dev`: no clip of one class can be decoded:{examples(scored.skipped)}")
        labels = jnp.asarray(bonafide, jnp.int32)
        losses = np.asarray(clip_losses(jnp.asarray(scored.logits), labels, self._config.training))
        loss = float((losses[bonafide].mean() + losses[~bonafide].mean()) / 2)
        finite = math.isfinite(loss)
        rate = eer(scored.logits[bonafide, 1], scored.logits[~bonafide, 1]).rate if finite else math.nan
        return DevResult(loss, rate, tuple(scored.skipped))

    def score(self, leaves: Leaves) -> DevLogits:
        """The logits of all clips that can be decoded."""
        training = self._config.training
        size = training.batch_size // training.accumulation
        tasks = (self._pool.submit(decode_trial, clip, self._config.model) for clip in self._clips)
        decoded = [task.result() for task in prefetch(tasks, size)]
        bonafide = [clip.trial.label == "bonafide" for clip in decoded if clip.window is not None]
        windows = [clip.window for clip in decoded if clip.window is not None]
        logits = [np.zeros((0, 2), np.float32)]
        for start in range(0, len(windows), size):
            batch = np.stack(windows[start : start + size])
            # The compiled network takes batches of one size.
            padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            logits.append(np.asarray(self._forward(leaves, jax.device_put(padded, self._sharding)))[: len(batch)])
        skipped = [f"{clip.trial.utterance_id}: {clip.error}" for clip in decoded if clip.error is not None]
        return DevLogits(np.concatenate(logits), np.array(bonafide, bool), skipped)
