"""The trials of a dataset, listed from its labels and read shard by shard, so that scored shards may be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from spectra_jax.data.labels import Labels
from spectra_jax.data.sources.arena import LABELS, Dataset, num_rows
from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.sources.source import Source
from spectra_jax.data.trial import Label, Trial
from spectra_jax.errors import InputError
from spectra_jax.messages import printable
from spectra_jax.reproduction.record import DatasetRecord, Shard
from spectra_jax.reproduction.shards import ShardCache

_WORDS: tuple[Label, Label] = ("spoof", "bonafide")


@dataclass(frozen=True)
class StreamedDataset(Source):
    """The trials of a dataset or of its sample. A shard is fetched when it is reached, and never to skip it.

    Attributes:
      record: of the dataset.
      labels: the content of its `labels.parquet`.
      cache: fetches the shards.
    """

    record: DatasetRecord
    labels: Labels
    cache: ShardCache

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.record.dataset}@{self.record.commit}"

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        """The trials without their clips, of all or of the sample.

        Raises:
          InputError: a trial of the sample has no label.
        """
        bonafide = self._bonafide
        ids = bonafide if self.record.sample is None else self.record.sample.utterance_ids
        for identity in ids:
            if identity not in bonafide:
                raise InputError(f"{LABELS} has no trial {printable(identity)}, which a shard has")
            yield Trial(identity, Path(LABELS).name, _WORDS[bonafide[identity]], stamp=self.record.commit)

    def read_trials(self, start: int) -> Iterator[Trial]:
        """The trials from index `start` on, with their clips.

        Raises:
          HubError, InputError: a shard cannot be fetched or read, or has another label than `labels.parquet`.
        """
        for shard in self.record.shards_to_read:
            number = self._num_trials(shard)
            if number is not None and number <= start:
                start -= number
                continue
            path = self.cache.fetch(self.record, shard)
            if number is None:
                self.record.add_rows(shard.name, num_rows(str(path)))
                number = self.record.rows[shard.name]
                if number <= start:
                    start -= number
                    continue
            for trial in self._read(shard, path, start):
                self._check_label(shard, trial)
                yield trial
            start = 0

    def delete_scored(self, num_trials: int) -> None:
        """Delete the shards all of whose trials are among the first `num_trials`, whose scores are on the disk."""
        for shard in self.record.shards_to_read:
            number = self._num_trials(shard)
            if number is None or number > num_trials:
                return
            num_trials -= number
            self.cache.delete(self.record, shard)

    @cached_property
    def _bonafide(self) -> dict[str, bool]:
        """Whether each trial is bona fide, by its id, in the order of the labels."""
        return dict(zip(map(str, self.labels.utterance_ids), map(bool, self.labels.bonafide), strict=True))

    def _num_trials(self, shard: Shard) -> int | None:
        """How many trials are read from a shard; None while that is not known."""
        sample = self.record.sample
        return self.record.rows.get(shard.name) if sample is None else len(sample.ids[shard.name])

    def _read(self, shard: Shard, path: Path, start: int) -> Iterator[Trial]:
        dataset = Dataset(self.name, [lambda: str(path)], revision=self.record.commit)
        if self.record.sample is None:
            yield from dataset.read_trials(start)
            return
        taken = set(self.record.sample.ids[shard.name][start:])
        for trial in dataset.read_trials(0):
            if trial.utterance_id in taken:
                yield trial

    def _check_label(self, shard: Shard, trial: Trial) -> None:
        expected = self._bonafide.get(trial.utterance_id)
        # An unknown id is refused by `Trials`.
        if expected is not None and trial.label != _WORDS[expected]:
            raise InputError(
                f"{LABELS} has the label {_WORDS[expected]} for {printable(trial.utterance_id)}, and {shard.name} has "
                f"{trial.label}: one of them is wrong, and no EER can be computed"
            )
