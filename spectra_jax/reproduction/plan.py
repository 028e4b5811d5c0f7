"""What is left to score, and for how long: the speed of the loaded network is measured on a few batches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spectra_jax.inference.scorer import Scorer
from spectra_jax.jobs.parts import existing_parts, in_whole_batches
from spectra_jax.jobs.store import Store
from spectra_jax.reproduction.prepare import Prepared

_SECONDS = 2.0


@dataclass(frozen=True)
class PlannedDataset:
    """What is left to do for a dataset.

    Attributes:
      dataset: its name.
      revision: its commit.
      num_bytes: of the shards that the trials are in.
      num_trials: to be scored in all.
      num_scored: of them, so many are scored already.
      seconds: that the network needs for the others.
    """

    dataset: str
    revision: str
    num_bytes: int
    num_trials: int
    num_scored: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What is left to do for all datasets.

    Attributes:
      datasets: that can be scored.
      clips_per_second: of the network alone, on this machine. Decoding runs beside it, on the other cores.
    """

    datasets: Sequence[PlannedDataset]
    clips_per_second: float

    @property
    def seconds(self) -> float:
        """That the network needs for all of them."""
        return sum(dataset.seconds for dataset in self.datasets)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "seconds": self.seconds}


def make_plan(prepared: Sequence[Prepared], scorer: Scorer, part_size: int) -> Plan:
    """Measure the speed of the network, and compute what is left to do.

    Args:
      prepared: the datasets.
      scorer: loaded or not.
      part_size: trials of one part of their runs.
    """
    speed = measure_speed(scorer)
    part_size = in_whole_batches(part_size, scorer.batch_size)
    return Plan([_planned(one, speed, part_size) for one in prepared], speed)


def _planned(prepared: Prepared, speed: float, part_size: int) -> PlannedDataset:
    record = prepared.record
    num_trials = prepared.num_trials
    num_scored = min(len(existing_parts(Store(prepared.run_folder))) * part_size, num_trials)
    return PlannedDataset(
        dataset=prepared.name,
        revision=record.commit,
        num_bytes=sum(shard.num_bytes for shard in record.shards_to_read),
        num_trials=num_trials,
        num_scored=num_scored,
        seconds=(num_trials - num_scored) / speed,
    )


def measure_speed(scorer: Scorer) -> float:
    """Clips per second of the network alone, from batches of noise for about two seconds."""
    size = (scorer.batch_size, scorer.model.config.num_samples)
    windows = np.random.default_rng(0).normal(scale=0.1, size=size).astype(np.float32)
    # The first call may still allocate.
    scorer.logits(windows)
    num_clips, start = 0, time.monotonic()
    while (elapsed := time.monotonic() - start) < _SECONDS or not num_clips:
        scorer.logits(windows)
        num_clips += len(windows)
    return num_clips / elapsed
