"""From the name of a dataset to its commit, shards, labels and published scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spectra_jax import hub
from spectra_jax.arena.reported import REPORTED, published_scores
from spectra_jax.data.labels import Labels, read_labels
from spectra_jax.data.score_files import Scores
from spectra_jax.data.sources.arena import LABELS, ORGANISATION, Dataset, pinned_revision, shards_among
from spectra_jax.data.trial import Trial
from spectra_jax.errors import HubError, InputError, NoRevisionError
from spectra_jax.hub.names import is_commit
from spectra_jax.inference.identity import RUN
from spectra_jax.messages import on_one_line
from spectra_jax.reproduction.record import DatasetRecord, Sample, Shard
from spectra_jax.reproduction.sampling import draw_sample
from spectra_jax.reproduction.settings import Settings
from spectra_jax.reproduction.shards import ShardCache, gigabytes


@dataclass(frozen=True)
class Prepared:
    """A dataset that can be scored.

    Attributes:
      name: such as `SONAR`.
      record: what was decided when it was started.
      labels: of all its trials.
      published: the published scores of all its trials; None where they cannot be fetched.
      notes: what the user has to know, a sentence each.
    """

    name: str
    record: DatasetRecord
    labels: Labels
    published: Scores | None
    notes: tuple[str, ...] = ()

    @property
    def num_trials(self) -> int:
        """How many trials are scored."""
        sample = self.record.sample
        return len(self.labels.utterance_ids if sample is None else sample.utterance_ids)

    @property
    def run_folder(self) -> Path:
        """The folder of its run."""
        return self.record.path.with_suffix("")


def split_name(name: str) -> tuple[str, str]:
    """The dataset and the revision of `NAME` or `NAME@REVISION`; by default the pinned revision, otherwise `main`.

    Raises:
      InputError: nothing is reported for the dataset.
    """
    dataset, _, revision = name.partition("@")
    if dataset not in REPORTED:
        raise InputError(f"nothing is reported for {dataset}; reported are {', '.join(REPORTED)}")
    return dataset, revision or pinned_revision(f"{ORGANISATION}/{dataset}")


def prepare(name: str, revision: str, settings: Settings, cache: ShardCache) -> Prepared:
    """Find out what there is to score of a dataset, or read it from the record of an earlier session.

    Args:
      name: such as `SONAR`.
      revision: of the dataset.
      settings: with the folder of the record.
      cache: fetches the shards from which a sample is drawn.

    Raises:
      HubError: the dataset cannot be fetched.
      InputError: it has another layout, or was started with other settings.
    """
    path = settings.folder / f"{name}.json"
    recorded = DatasetRecord.read(path)
    notes: tuple[str, ...] = ()
    if recorded is None or (_asked(recorded) != _wanted(revision, settings) and not _is_scored(path)):
        record = _start(path, name, revision)
        if recorded is not None and recorded.commit == record.commit:
            record.rows, record.downloaded = recorded.rows, recorded.downloaded
    else:
        record = recorded
        notes = _check_same_run(record, revision, settings)
    cache.add_record(record)
    labels = read_labels(hub.fetch_dataset_file(record.dataset, record.commit, LABELS))
    if record.sample is None and settings.sample is not None:
        record.sample = _draw(settings.sample, settings.seed, record, labels, cache)
    record.save()
    try:
        published = published_scores(name)
    except (HubError, InputError) as error:
        published = None
        notes = (*notes, f"the published scores cannot be read: {on_one_line(error)}")
    return Prepared(name, record, labels, published, notes)


def _start(path: Path, name: str, revision: str) -> DatasetRecord:
    """The record of a dataset that was not started before."""
    dataset = f"{ORGANISATION}/{name}"
    try:
        found = hub.list_dataset_files(dataset, revision)
    except NoRevisionError as error:
        if revision != pinned_revision(dataset):
            raise
        raise InputError(
            f"{dataset} does not have the revision {revision} any more. The reported EER is of that revision; "
            f"{name}@main takes the present files instead"
        ) from error
    where = f"{dataset} at {found.commit}"
    names = shards_among(found.sizes, where)
    if LABELS not in found.sizes:
        raise InputError(f"{where}: no {LABELS} in it, from which the trials are listed")
    return DatasetRecord(
        path, dataset, revision, found.commit, tuple(Shard(name, found.sizes[name] or 0) for name in names)
    )


def _check_same_run(record: DatasetRecord, revision: str, settings: Settings) -> tuple[str, ...]:
    """Check that a record is of a run with these settings; notes for the user.

    Raises:
      InputError: it is of another run.
    """
    asked, wanted = _asked(record), _wanted(revision, settings)
    if asked != wanted:
        raise InputError(
            f"{record.path}: was started with {asked}, and is now to be resumed with {wanted}. Give the same options, "
            "or another --output"
        )
    if is_commit(revision):
        return ()
    try:
        commit = hub.list_dataset_files(record.dataset, revision).commit
    except HubError:
        # A commit that was recorded is as good without the Hub.
        return ()
    if commit == record.commit:
        return ()
    return (f"{revision} has moved to {commit} since the run was started; the run keeps {record.commit}",)


def _asked(record: DatasetRecord) -> str:
    """The trials that a run was started with, in words."""
    if record.sample is None:
        return _trials_in_words(None, 0, record.revision)
    return _trials_in_words(record.sample.number, record.sample.seed, record.revision)


def _wanted(revision: str, settings: Settings) -> str:
    """The trials that are to be scored now, in the same words."""
    return _trials_in_words(settings.sample, settings.seed, revision)


def _trials_in_words(sample: int | None, seed: int, revision: str) -> str:
    return f"all trials at {revision}" if sample is None else f"--sample {sample} --seed {seed} at {revision}"


def _is_scored(path: Path) -> bool:
    """Whether the run of a record was started."""
    return (path.with_suffix("") / RUN).exists()


def _draw(number: int, seed: int, record: DatasetRecord, labels: Labels, cache: ShardCache) -> Sample:
    def list_shard(shard: Shard) -> Iterable[Trial]:
        path = cache.fetch(record, shard)
        yield from Dataset(record.dataset, [lambda: str(path)], revision=record.commit).list_trials()
        cache.mark_read(record, shard)

    record.save()
    return draw_sample(number, seed, record.shards, labels, list_shard)


def check_disk_limit(prepared: Prepared, limit: int, num_read_ahead: int) -> None:
    """Check that all shards which are needed at a time fit into the limit.

    Args:
      prepared: the dataset.
      limit: in bytes.
      num_read_ahead: trials that may be read before the shard of the first of them can be deleted.

    Raises:
      InputError: they do not, by the mean number of trials of a shard.
    """
    shards = prepared.record.shards_to_read
    per_shard = max(prepared.num_trials / len(shards), 1.0)
    num_needed = min(int(num_read_ahead / per_shard) + 2, len(shards))
    needed = sum(sorted((shard.num_bytes for shard in shards), reverse=True)[:num_needed])
    if needed > limit:
        raise InputError(
            f"--disk-limit {gigabytes(limit)} is too little: {num_needed} shards of it are needed at a time, "
            f"{gigabytes(needed)}"
        )
