"""`NAME.json`: what was decided when a dataset was started, and which of its shards were fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spectra_jax.errors import InputError
from spectra_jax.files.atomic import atomic_file
from spectra_jax.files.untrusted import read_json


@dataclass(frozen=True)
class Shard:
    """A shard by its name in the repository, and its size in bytes."""

    name: str
    num_bytes: int


@dataclass(frozen=True)
class Sample:
    """The trials that are scored instead of all.

    Attributes:
      number: of trials that were asked for.
      seed: of the draw.
      ids: of the drawn trials, by the name of their shard, in the order of scoring.
    """

    number: int
    seed: int
    ids: Mapping[str, Sequence[str]]

    @property
    def utterance_ids(self) -> list[str]:
        """The ids of all drawn trials, in the order of scoring."""
        return [identity for of_shard in self.ids.values() for identity in of_shard]


@dataclass
class DatasetRecord:
    """A dataset as it was when it was started, and how far it is. Changes are on the disk when a method returns.

    Attributes:
      path: of the file.
      dataset: its name on the Hub, `org/name`.
      revision: that was asked for: a commit, branch or tag.
      commit: that `revision` was then.
      shards: all of them, in order.
      sample: the trials that are scored; None for all.
      rows: the number of rows of each shard that was fetched, by its name.
      downloaded: the names of the shards in the cache that were not there before, and may be deleted from it.
      seconds: spent on scoring.
    """

    path: Path
    dataset: str
    revision: str
    commit: str
    shards: tuple[Shard, ...]
    sample: Sample | None = None
    rows: dict[str, int] = field(default_factory=dict)
    downloaded: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def read(cls, path: Path) -> DatasetRecord | None:
        """Read a record; None where there is none.

        Raises:
          InputError: it is damaged.
        """
        try:
            values = read_json(path)
            sample = values["sample"]
            return cls(
                path,
                values["dataset"],
                values["revision"],
                values["commit"],
                tuple(Shard(shard["name"], int(shard["num_bytes"])) for shard in values["shards"]),
                None if sample is None else Sample(sample["number"], sample["seed"], dict(sample["ids"])),
                {str(name): int(rows) for name, rows in values["rows"].items()},
                [str(name) for name in values["downloaded"]],
                float(values["seconds"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: is damaged ({error}). Remove it: the same command writes it again and keeps the scores"
            ) from error

    @property
    def shards_to_read(self) -> tuple[Shard, ...]:
        """The shards that hold the trials which are scored, in order."""
        if self.sample is None:
            return self.shards
        shards = {shard.name: shard for shard in self.shards}
        return tuple(shards[name] for name in self.sample.ids)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        sample = self.sample
        return {
            "dataset": self.dataset,
            "revision": self.revision,
            "commit": self.commit,
            "seconds": self.seconds,
            "shards": [{"name": shard.name, "num_bytes": shard.num_bytes} for shard in self.shards],
            "rows": self.rows,
            "downloaded": self.downloaded,
            "sample": None if sample is None else {"number": sample.number, "seed": sample.seed, "ids": sample.ids},
        }

    def save(self) -> None:
        """Write the file, atomically."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as file:
            file.write((json.dumps(self.to_dict(), indent=1) + "\n").encode())

    def add_rows(self, shard: str, rows: int) -> None:
        """Note how many rows a shard has."""
        self.rows[shard] = rows
        self.save()

    def add_downloaded(self, shard: str) -> None:
        """Note that a shard is about to be downloaded."""
        if shard not in self.downloaded:
            self.downloaded.append(shard)
            self.save()

    def remove_downloaded(self, shard: str) -> None:
        """Note that a shard was deleted: whoever downloads it from now on is another program."""
        if shard in self.downloaded:
            self.downloaded.remove(shard)
            self.save()

    def add_seconds(self, seconds: float) -> None:
        """Add time that was spent on scoring."""
        self.seconds += seconds
        self.save()
