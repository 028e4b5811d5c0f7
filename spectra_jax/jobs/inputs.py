"""What a run knew of its inputs when it was started: the size and modification time of each trial's file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest

import pyarrow as pa
import pyarrow.parquet as pq

from spectra_jax.data.sources import Trials
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.jobs import certified
from spectra_jax.jobs.store import Store

NAME = "inputs.parquet"
_SCHEMA = pa.schema([pa.field("stamp", pa.string())])  # of the trial at this index
_STAMPS = b"stamps"


def write(store: Store, trials: Trials, run: str, part_size: int, *, replace: bool) -> None:
    """Record the inputs as they are now.

    Raises:
      FileExistsError: they are recorded already, and not to be replaced.
      InputError: the trials are not those that were listed.
    """
    listed = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal listed
        stamps = (trial.stamp for trial in trials.listed())
        while len(table := pa.table({"stamp": list(islice(stamps, part_size))}, schema=_SCHEMA)):
            listed += len(table)
            yield table

    data = certified.encode(tables(), _SCHEMA, run, stamps=trials.stamps_digest)
    if listed != len(trials):
        raise InputError(
            f"{len(trials):,} trials listed at first, and {listed:,} a moment later. Did the input change?"
        )
    store.write(NAME, data, replace=replace)


class Inputs:
    """The recorded inputs of a run, a part at a time: some ten bytes a trial are kept in memory.

    Raises:
      FileNotFoundError: they were not recorded.
      UnusableFileError: the record is damaged, or of another run.
    """

    def __init__(self, store: Store, run: str):
        self._file: pq.ParquetFile = certified.read(store, NAME, run)
        self.digest = self._file.schema_arrow.metadata[_STAMPS].decode()

    def stamps(self, part: int) -> list[str | None]:
        """Of a part's trials, in order."""
        return list(self._file.read_row_group(part)["stamp"].to_pylist())

    def changed(self, trials: Iterable[Trial]) -> Iterator[str]:
        """The trials whose files have changed since, each in a line."""
        before = (stamp for part in range(self._file.num_row_groups) for stamp in self.stamps(part))
        for trial, stamp in zip_longest(trials, before):
            if trial is not None and trial.stamp != stamp:
                yield difference(trial, stamp)


def difference(trial: Trial, stamp: str | None) -> str:
    """A trial, and what has changed of its file."""
    return f"{trial.utterance_id!r} ({str(trial.path)!r}): {stamp or 'unknown'} then, {trial.stamp or 'unknown'} now"
