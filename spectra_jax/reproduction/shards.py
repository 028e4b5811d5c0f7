"""Shards in the Hub client's cache, of which no more than a number of bytes is there at a time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from spectra_jax import hub
from spectra_jax.errors import InputError
from spectra_jax.hub.cache import look_up, release
from spectra_jax.hub.client import cache_directory
from spectra_jax.reproduction.record import DatasetRecord, Shard


def gigabytes(num_bytes: float) -> str:
    """A number of bytes for a message."""
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e7 else f"{num_bytes / 1e6:,.3f} MB"


@dataclass
class _Kept:
    """A shard that was downloaded by a run; `read` once it is no longer needed for what is being read."""

    record: DatasetRecord
    shard: Shard
    path: Path
    read: bool = False


class ShardCache:
    """Fetches shards, and deletes those that are no longer needed where there is a limit.

    Shards that were in the cache before, for other programs, are neither counted nor deleted. Content that is also that
    of another commit's file stays when a shard is deleted.

    Args:
      limit: in bytes; None keeps all shards.
    """

    def __init__(self, limit: int | None):
        self.limit = limit
        self._kept: dict[tuple[str, str], _Kept] = {}

    def add_record(self, record: DatasetRecord) -> None:
        """Count the shards that an earlier session of the run downloaded."""
        for shard in record.shards:
            if shard.name in record.downloaded:
                file = look_up(record.dataset, record.commit, shard.name, "dataset").file
                if file is not None:
                    self._kept.setdefault(_key(record, shard), _Kept(record, shard, file.path, read=True))

    def fetch(self, record: DatasetRecord, shard: Shard) -> Path:
        """The path of a shard, which is downloaded if it is not in the cache.

        Raises:
          HubError: it cannot be fetched.
          InputError: it does not fit below the limit, beside the shards that are still needed.
        """
        key = _key(record, shard)
        if key in self._kept:
            self._kept[key].read = False
        cached = look_up(record.dataset, record.commit, shard.name, "dataset").file
        if cached is None:
            self._make_space(shard.num_bytes)
            # Before the download, so that an interrupted run deletes it later.
            record.add_downloaded(shard.name)
        path = hub.fetch_dataset_file(record.dataset, record.commit, shard.name)
        if cached is None:
            self._kept[key] = _Kept(record, shard, path)
        return path

    def mark_read(self, record: DatasetRecord, shard: Shard) -> None:
        """Note that a shard may be deleted once its space is needed."""
        if (kept := self._kept.get(_key(record, shard))) is not None:
            kept.read = True

    def release(self, record: DatasetRecord) -> None:
        """Note that all shards of a dataset may be deleted once their space is needed."""
        for shard in record.shards:
            self.mark_read(record, shard)

    def delete(self, record: DatasetRecord, shard: Shard) -> None:
        """Delete a shard whose scores are on the disk, where there is a limit."""
        if self.limit is not None and _key(record, shard) in self._kept:
            self._delete(_key(record, shard))

    def _delete(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key)
        release(kept.path)
        kept.record.remove_downloaded(kept.shard.name)

    def _make_space(self, num_bytes: int) -> None:
        if self.limit is None:
            _check_free_space(num_bytes)
            return
        for key, kept in list(self._kept.items()):
            if kept.read and self._num_bytes() + num_bytes > self.limit:
                self._delete(key)
        if self._num_bytes() + num_bytes > self.limit:
            raise InputError(
                f"--disk-limit {gigabytes(self.limit)}: a shard of {gigabytes(num_bytes)} is needed beside shards of "
                f"{gigabytes(self._num_bytes())} whose scores are not written yet. Raise it, or lower --part-size in "
                "another --output"
            )

    def _num_bytes(self) -> int:
        return sum(kept.shard.num_bytes for kept in self._kept.values())


def _check_free_space(num_bytes: int) -> None:
    """Check before a download that a shard fits on the disk.

    Raises:
      InputError: it does not.
    """
    folder = cache_directory()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if (free := shutil.disk_usage(existing).free) < num_bytes:
        raise InputError(
            f"the disk of {folder} has {gigabytes(free)} left, and a shard has {gigabytes(num_bytes)}. Free some "
            "space, set HF_HOME to a folder on a larger disk, or have scored shards deleted with --disk-limit"
        )


def _key(record: DatasetRecord, shard: Shard) -> tuple[str, str]:
    return f"{record.dataset}@{record.commit}", shard.name
