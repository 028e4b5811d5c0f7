"""Manifests: lists of clips with what is known of them, read a line at a time.

| file | |
| --- | --- |
| .csv, .tsv | in UTF-8; the first line names the columns |
| .jsonl | an object a line |
| .parquet | text columns |

`path` is needed, relative to the manifest's folder unless absolute or a URL; `utterance_id` and `label` are optional,
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

from spectra_jax.data.sources import remote
from spectra_jax.data.sources.files import IdRule, id_of
from spectra_jax.data.sources.source import LeftOut, Source, stamp_of
from spectra_jax.data.tables import text_lines, text_rows
from spectra_jax.data.text import json_object, parse_label, reading_parquet
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.messages import count, printable

SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
# Of a list on standard input, in bytes.
_LARGEST_LIST = 1 << 30
_COLUMNS = ("path", "utterance_id", "label")


@dataclass(frozen=True)
class Manifest(Source):
    """A manifest, by its path or URL."""

    name: str
    ids: IdRule

    def listed(self, left_out: LeftOut | None = None) -> Iterator[Trial]:
        return self.from_(0)

    def from_(self, start: int) -> Iterator[Trial]:
        readers = {".jsonl": self._json_rows, ".parquet": self._parquet_rows}
        rows = readers.get(remote.suffix(self.name), self._csv_rows)()
        empty = True
        for place, row in islice(rows, start, None):
            empty = False
            yield self._trial(place, row)
        if empty and start == 0:
            raise InputError(f"{self.name}: no trials in it")

    def _trial(self, place: str, row: Mapping[str, Any]) -> Trial:
        values = {column: row.get(column) for column in _COLUMNS}
        for column, value in values.items():
            if value is not None and not isinstance(value, str):
                raise InputError(f"{place}: {column} is {value!r}, which is not text")
        path, name, label = values["path"], values["utterance_id"], values["label"]
        if not path:
            raise InputError(f"{place}: no path")
        if name == "":
            raise InputError(f"{place}: no utterance_id")
        file = remote.beside(self.name, path)
        return Trial(
            name or id_of(remote.path_of(path), self.ids),
            file,
            parse_label(place, label or ""),
            # A URL's would take a request for each.
            stamp=stamp_of(file) if isinstance(file, Path) else None,
            fallbacks=() if name else (path,),
        )

    def _csv_rows(self) -> Iterator[tuple[str, dict[str, str]]]:
        # A column of paths alone has no delimiter, and its paths may have spaces.
        otherwise = "\t" if remote.suffix(self.name) == ".tsv" else ","
        with remote.opened(self.name) as file:
            yield from self._csv_rows_of(text_rows(self.name.partition("?")[0], file, otherwise=otherwise))

    def _csv_rows_of(self, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[str, dict[str, str]]]:
        line, header = next(rows, (0, []))
        columns = [name.lower() for name in header]
        if not header:
            raise InputError(f"{self.name}: empty; the first line names the columns: path, utterance_id, label")
        if "path" not in columns:
            raise InputError(
                f"{self.name}, line {line}: no column `path` in the header, which has: "
                f"{', '.join(map(printable, header))}"
            )
        for name in _COLUMNS:
            if columns.count(name) > 1:
                raise InputError(f"{self.name}, line {line}: {columns.count(name)} columns called `{name}`")
        for line, row in rows:
            if len(row) != len(columns):
                raise InputError(
                    f"{self.name}, line {line}: {count(len(row), 'cell')} where the header has {len(columns)}"
                    " (a cell that holds the separator itself goes in double quotes)"
                )
            yield f"{self.name}, line {line}", dict(zip(columns, row, strict=True))

    def _json_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with remote.opened(self.name) as file:
            for line, text in text_lines(self.name, file):
                if text.strip():
                    yield f"{self.name}, line {line}", json_object(f"{self.name}, line {line}", text)

    def _parquet_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        import pyarrow.parquet as pq

        row = 0
        with remote.opened(self.name) as source, reading_parquet(self.name), pq.ParquetFile(source) as file:
            names = file.schema_arrow.names
            columns = [name for name in _COLUMNS if name in names]
            if "path" not in columns:
                raise InputError(f"{self.name}: no column `path`; it has: {', '.join(map(printable, names))}")
            for batch in file.iter_batches(8192, columns=columns, use_threads=False):
                for values in batch.to_pylist():
                    yield f"{self.name}, row {row}", values
                    row += 1


@dataclass(frozen=True)
class Lines(Source):
    """A path or URL a line, in UTF-8 or whatever bytes the file names have; blank lines are left out."""

    name: str
    text: bytes
    ids: IdRule

    @classmethod
    def of_standard_input(cls, ids: IdRule) -> Self:
        """Of all that standard input has.

        Raises:
          InputError: it is larger than a list of paths can be, or in UTF-16.
        """
        text = sys.stdin.buffer.read(_LARGEST_LIST + 1)
        if len(text) > _LARGEST_LIST:
            raise InputError(f"standard input: more than {_LARGEST_LIST:,} bytes; a path or URL a line is expected")
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError("standard input: a list in UTF-16; write it in UTF-8")
        return cls("standard input", text.removeprefix(codecs.BOM_UTF8), ids)

    def listed(self, left_out: LeftOut | None = None) -> Iterator[Trial]:
        return self.from_(0)

    def from_(self, start: int) -> Iterator[Trial]:
        empty = True
        for path in islice(self._paths(), start, None):
            empty = False
            file = path if remote.is_url(path) else Path(path)
            stamp = stamp_of(file) if isinstance(file, Path) else None
            yield Trial(id_of(remote.path_of(path), self.ids), file, stamp=stamp, fallbacks=(path,))
        if empty and start == 0:
            raise InputError(f"{self.name}: no line in it; a path or URL a line is expected")

    def _paths(self) -> Iterator[str]:
        for number, text in enumerate(io.BytesIO(self.text), start=1):
            line = text.removesuffix(b"\n")
            if b"\0" in line:
                raise InputError(
                    f"{self.name}, line {number}: holds a NUL character, which no path has; a path or URL a line is "
                    "expected, in UTF-8 (of `find`, what -print gives and not -print0)"
                )
            exact, stripped = os.fsdecode(line.removesuffix(b"\r")), os.fsdecode(line.strip())
            # A file name may begin or end with a space; in a list that was written by hand, it is a slip.
            if stripped:
                yield exact if exact != stripped and os.path.lexists(exact) else stripped
