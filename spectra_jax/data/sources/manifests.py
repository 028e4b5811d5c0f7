"""Manifests: tables that list clips with their metadata, read a few rows at a time.

| file | |
| --- | --- |
| .csv, .tsv | in UTF-8; the first line names the columns |
| .jsonl | an object a line |
| .parquet | text columns |

`path` is required, relative to the manifest's folder unless absolute or a URL; `utterance_id` and `label` are optional,
and other columns are ignored. A label is `bonafide` or `spoof` in any case, `bona fide`, `bona-fide` and `bona_fide`
included; an empty one is unknown. A list has a path or URL a line and nothing else, and comes on standard input.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from spectra_jax.data.conventions import parse_label
from spectra_jax.data.sources import remote
from spectra_jax.data.sources.files import IdRule, id_of
from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.sources.source import Source, file_stamp
from spectra_jax.data.tables import read_rows
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
# Of a list on standard input, in bytes.
_LARGEST_LIST = 1 << 30
_COLUMNS = ("path", "utterance_id", "label")


@dataclass(frozen=True)
class Manifest(Source):
    """A manifest, by its path or URL."""

    name: str
    ids: IdRule

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        return self.read_trials(0)

    def read_trials(self, start: int) -> Iterator[Trial]:
        empty = True
        with remote.opened(self.name) as file:
            for location, row in islice(read_rows(self.name, file, remote.suffix(self.name), _COLUMNS), start, None):
                empty = False
                yield self._trial(location, row)
        if empty and start == 0:
            raise InputError(f"{self.name}: no trials in it")

    def _trial(self, location: str, row: Mapping[str, Any]) -> Trial:
        values = {column: row.get(column) for column in _COLUMNS}
        for column, value in values.items():
            if value is not None and not isinstance(value, str):
                raise InputError(f"{location}: {column} is {value!r}, which is not text")
        path, name, label = values["path"], values["utterance_id"], values["label"]
        if not path:
            raise InputError(f"{location}: no path")
        if name == "":
            raise InputError(f"{location}: no utterance_id")
        file = remote.beside(self.name, path)
        return Trial(
            name or id_of(remote.path_of(path), self.ids),
            file,
            parse_label(location, label or ""),
            # That of a URL would take a request for each clip.
            stamp=file_stamp(file) if isinstance(file, Path) else None,
            fallbacks=() if name else (path,),
        )


@dataclass(frozen=True)
class PathList(Source):
    """A path or URL a line, in UTF-8 or whatever bytes the file names have; blank lines are ignored."""

    name: str
    text: bytes
    ids: IdRule

    @classmethod
    def from_standard_input(cls, ids: IdRule) -> Self:
        """Read standard input to its end.

        Raises:
          InputError: it is larger than a list of paths can be, or in UTF-16.
        """
        text = sys.stdin.buffer.read(_LARGEST_LIST + 1)
        if len(text) > _LARGEST_LIST:
            raise InputError(f"standard input: more than {_LARGEST_LIST:,} bytes; a path or URL a line is expected")
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError("standard input: a list in UTF-16; write it in UTF-8")
        return cls("standard input", text.removeprefix(codecs.BOM_UTF8), ids)

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        return self.read_trials(0)

    def read_trials(self, start: int) -> Iterator[Trial]:
        empty = True
        for path in islice(self._paths(), start, None):
            empty = False
            file = path if remote.is_url(path) else Path(path)
            stamp = file_stamp(file) if isinstance(file, Path) else None
            yield Trial(id_of(remote.path_of(path), self.ids), file, stamp=stamp, fallbacks=(path,))
        if empty and start == 0:
            raise InputError(f"{self.name}: no line in it; a path or URL a line is expected")

    def _paths(self) -> Iterator[str]:
        for number, text in enumerate(io.BytesIO(self.text), start=1):
            line = text.removesuffix(b"\n")
            if b"\0" in line:
                raise InputError(
                    f"{self.name}, line {number}: holds a NUL character, which no path has; a path or URL a line is "
                    "expected, in UTF-8 (from `find`, use -print and not -print0)"
                )
            exact, stripped = os.fsdecode(line.removesuffix(b"\r")), os.fsdecode(line.strip())
            # A file name may begin or end with a space; if no such file exists, the space is a slip of the hand.
            if stripped:
                yield exact if exact != stripped and os.path.lexists(exact) else stripped
