"""A sample of a dataset's trials: of each label in proportion, from a few shards, so that only those are downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from spectra_jax.data.labels import Labels
from spectra_jax.data.trial import Trial
from spectra_jax.reproduction.record import Sample, Shard

FEWEST_SHARDS = 4
"""A sample is drawn from so many shards at least, where the dataset has them: a shard may hold one attack only."""


def draw_sample(
    number: int, seed: int, shards: Sequence[Shard], labels: Labels, list_shard: Callable[[Shard], Iterable[Trial]]
) -> Sample:
    """Draw a sample.

    Shards are drawn in random order until they hold the sample; then trials of each label are drawn from these shards.

    Args:
      number: of trials.
      seed: the same seed draws the same sample.
      shards: of the dataset.
      labels: of all its trials, which decide the proportion of the labels.
      list_shard: the trials of a shard.
    """
    random = np.random.default_rng(seed)
    shares = _shares(number, labels.bonafide)
    listed: dict[str, list[Trial]] = {}
    by_label: dict[str, list[str]] = {label: [] for label in shares}
    for index in random.permutation(len(shards)):
        complete = all(len(by_label[label]) >= share for label, share in shares.items())
        if complete and len(listed) >= FEWEST_SHARDS:
            break
        listed[shards[index].name] = trials = list(list_shard(shards[index]))
        for trial in trials:
            by_label[str(trial.label)].append(trial.utterance_id)
    drawn: set[str] = set()
    for label, share in shares.items():
        drawn |= {by_label[label][index] for index in random.permutation(len(by_label[label]))[:share]}
    # In the order in which they are read.
    ids = {
        name: [trial.utterance_id for trial in listed[name] if trial.utterance_id in drawn] for name in sorted(listed)
    }
    return Sample(number, seed, {name: drawn_of_shard for name, drawn_of_shard in ids.items() if drawn_of_shard})


def _shares(number: int, bonafide: np.ndarray) -> dict[str, int]:
    """How many trials of each label a sample has: at least one of each that there is, and at most all."""
    counts = {"bonafide": int(bonafide.sum()), "spoof": int((~bonafide).sum())}
    total = sum(counts.values())
    return {label: min(max(round(number * count / total), 1), count) for label, count in counts.items()}
