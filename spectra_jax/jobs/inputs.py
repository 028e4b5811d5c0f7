"""`inputs.parquet`: the size and modification time of each trial's file when the run was started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, zip_longest

import pyarrow as pa
import pyarrow.parquet as pq

from spectra_jax.data.sources import Trials
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError, UnusableFileError
from spectra_jax.jobs import checksummed
from spectra_jax.jobs.store import Store
from spectra_jax.messages import count, examples

NAME = "inputs.parquet"
_SCHEMA = pa.schema([pa.field("stamp", pa.string())])  # one row a trial, in input order
_STAMPS = b"stamps"


class InputRecord:
    """The recorded stamps of a run's inputs. A part's are read at a time: memory holds about ten bytes a trial.

    Attributes:
      digest: sha256 over all stamps, as `Trials.stamps_digest`.

    Raises:
      FileNotFoundError: the run has no record.
      UnusableFileError: the record is damaged, or belongs to another run.
    """

    def __init__(self, store: Store, run: str):
        self._file: pq.ParquetFile = checksummed.read(store, NAME, run)
        self.digest: str = self._file.schema_arrow.metadata[_STAMPS].decode()

    def stamps(self, part: int) -> list[str | None]:
        """Return the stamps of a part's trials, in order."""
        return list(self._file.read_row_group(part)["stamp"].to_pylist())

    def changes(self, trials: Iterable[Trial]) -> Iterator[str]:
        """Describe each trial whose file has changed since, one line each."""
        recorded = (stamp for part in range(self._file.num_row_groups) for stamp in self.stamps(part))
        for trial, stamp in zip_longest(trials, recorded):
            if trial is not None and trial.stamp != stamp:
                yield _change(trial, stamp)


def open_record(store: Store, trials: Trials, run: str, part_size: int, *, accept_changed: bool) -> InputRecord:
    """Read the record of a run's inputs, or write it where there is none or it is damaged.

    Args:
      store: the run's folder.
      trials: the inputs as they are now.
      run: the run's digest.
      part_size: trials of one part.
      accept_changed: write the record again, rather than refuse, where inputs have changed.

    Raises:
      InputError: inputs have changed; or their number changes meanwhile.
    """
    try:
        recorded = InputRecord(store, run)
    except (FileNotFoundError, UnusableFileError) as error:
        # Parts store the stamps of their own inputs, so those with other stamps are scored again.
        with suppress(FileExistsError):
            _write_record(store, trials, run, part_size, replace=isinstance(error, UnusableFileError))
        return InputRecord(store, run)
    if recorded.digest == trials.stamps_digest:
        return recorded
    if not accept_changed and (changes := list(recorded.changes(trials.without_content()))):
        raise InputError(
            f"{count(len(changes), 'input')} changed since {store.root} was started:{examples(changes)}\n"
            "Give another folder; or, with --accept-changed, the parts with such inputs are scored again."
        )
    _write_record(store, trials, run, part_size, replace=True)
    return InputRecord(store, run)


def _write_record(store: Store, trials: Trials, run: str, part_size: int, *, replace: bool) -> None:
    """Record the inputs as they are now.

    Raises:
      FileExistsError: there is a record, and `replace` is false.
      InputError: the number of trials has changed since they were listed.
    """
    listed = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal listed
        stamps = (trial.stamp for trial in trials.without_content())
        while len(table := pa.table({"stamp": list(islice(stamps, part_size))}, schema=_SCHEMA)):
            listed += len(table)
            yield table

    data = checksummed.encode(tables(), _SCHEMA, run, stamps=trials.stamps_digest)
    if listed != len(trials):
        raise InputError(
            f"{len(trials):,} trials listed at first, and {listed:,} a moment later. Did the input change?"
        )
    store.write(NAME, data, replace=replace)


def check_unchanged(trials: Iterable[Trial], stamps: Sequence[str | None], folder: str) -> None:
    """Raise unless each trial still has the stamp that was recorded for it.

    Raises:
      InputError: names the trials whose files have changed.
    """
    changes = [_change(trial, stamp) for trial, stamp in zip(trials, stamps, strict=True) if trial.stamp != stamp]
    if changes:
        raise InputError(f"{count(len(changes), 'input')} changed after {folder} was started:{examples(changes)}")


def _change(trial: Trial, stamp: str | None) -> str:
    """Describe a trial and what has changed of its file."""
    return f"{trial.utterance_id!r} ({str(trial.path)!r}): {stamp or 'unknown'} then, {trial.stamp or 'unknown'} now"
