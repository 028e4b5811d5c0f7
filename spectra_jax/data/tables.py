"""Reading tables of trials: .csv, .tsv, .txt, .jsonl and .parquet, and which column is which.

    columns = read_columns(Path("meta.csv"))        # every column by its name, in lower case
    column_of("meta.csv", columns, "label")         # the name of the column with the labels, by `conventions.py`

A text table has a header, or is a list whose fields are known by their number. Cells are separated by the comma,
semicolon, bar or tab that the first line has, or else by white space.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np

from spectra_jax.data.conventions import COLUMN_NAMES, Match, Role, column_name, known_names
from spectra_jax.data.text import reading_parquet
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples

# In characters. A line of a table has a few hundred; a transcript may have thousands.
LONGEST_LINE = 1 << 24
# Bytes that are not UTF-8, and the marks of UTF-16, as Python's "surrogateescape" decodes them.
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")
_UTF16 = ("\udcff\udcfe", "\udcfe\udcff")
# In the order in which a first line is searched for them.
_DELIMITERS = "\t|;,"


def require_plain_file(path: Path) -> None:
    """See that `path` is a file that can be read more than once, without opening it: a pipe would wait for ever.

    Raises:
      InputError: it is not there, or is a folder, a pipe or a device.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (ValueError, of a NUL in the name, comes from both)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: cannot be read: {reason}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: a folder, where a file is expected")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: not a plain file but a pipe or a device; save its content to a file first")


def text_lines(path: Path | str, file: IO[bytes] | None = None) -> Iterator[tuple[int, str]]:
    """Line number and text of each line, without its end, a line in memory at a time.

    Args:
      path: of the file, which messages name.
      file: where to read it from, if not from that path; left open.

    Raises:
      InputError: it cannot be read, is not UTF-8 text, or has a line longer than any table's; the line is named.
    """
    if file is None:
        require_plain_file(Path(path))
        try:
            with Path(path).open("rb") as opened:
                yield from text_lines(path, opened)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        return
    # Spreadsheets write a byte order mark. What is not UTF-8 is looked for in each line, so that the line is known.
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        for number, line in enumerate(iter(lambda: text.readline(LONGEST_LINE), ""), start=1):
            _check_line(path, number, line)
            yield number, line.rstrip("\r\n")
    finally:
        # Not closed with it. Whoever stops reading early may have closed it before.
        with suppress(ValueError):
            text.detach()


def _check_line(path: Path | str, number: int, line: str) -> None:
    where = f"{path}, line {number}"
    if len(line) == LONGEST_LINE:
        raise InputError(f"{where}: longer than {LONGEST_LINE:,} characters, so this is not a table of trials")
    if number == 1 and line.startswith(_UTF16):
        raise InputError(f"{where}: UTF-16 text; save it as UTF-8")
    if not line.isascii() and _NOT_UTF8.search(line):
        raise InputError(f"{where}: not UTF-8 text; save it as UTF-8")
    if "\0" in line:
        raise InputError(f"{where}: NUL bytes, as in UTF-16 text or a binary file; save it as UTF-8 text")


def text_rows(
    path: Path | str, file: IO[bytes] | None = None, *, otherwise: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each line that is not blank, a few lines in memory at a time.

    Args:
      path, file: as in `text_lines`.
      otherwise: what separates cells where the first line has no delimiter; None for white space.

    Raises:
      InputError: as `text_lines`, or quotes that do not close.
    """
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in text_lines(path, file):  # noqa: B007 (for messages)
            yield line + "\n"

    remaining = lines()
    first = next((line for line in remaining if line.strip()), None)
    if first is None:
        return
    try:
        delimiter = _delimiter(PurePath(path).suffix.lower(), first.strip()) or otherwise
        given = chain([first], remaining)
        rows = csv.reader(given, delimiter=delimiter, strict=True) if delimiter else map(str.split, given)
        for row in rows:
            if any(cell.strip() for cell in row):
                yield number, [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(f"{path}, line {number}: {error}") from error


def _delimiter(suffix: str, line: str) -> str | None:
    """What separates the cells of a first line; None for white space."""
    there = [delimiter for delimiter in _DELIMITERS if delimiter in line]
    if not there:
        return None
    if suffix not in (".csv", ".tsv") and len(line.split()) > 1:
        # Ids of a list whose fields are separated by spaces may have commas, and tabs may line its columns up.
        header = known_names(re.split(f"[{re.escape(_DELIMITERS)}]", line)) > 1
        if not header and not ("\t" in line and all(cell.strip() for cell in line.split("\t"))):
            return None
    # A header may have other delimiters within quotes. Among equals, a .csv's is the comma.
    there.sort(key=lambda delimiter: delimiter != "," or suffix != ".csv")
    return max(there, key=lambda delimiter: known_names(next(csv.reader([line], delimiter=delimiter))))


def read_columns(path: Path) -> dict[str, Sequence[Any]]:
    """Every column of a table with a header, of .jsonl or of .parquet, by its name in lower case.

    Raises:
      InputError: it cannot be read, or is not what its name says; the line is named.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_columns(path)
    if suffix == ".jsonl":
        columns = _by_column(_json_rows(path))
        if not columns:
            raise InputError(f"{path}: no trials in it")
        return columns
    rows = list(text_rows(path))
    if not rows:
        raise InputError(f"{path}: empty; the first line names the columns")
    return headed(path, rows)


def headed(path: Path, rows: Sequence[tuple[int, Sequence[str]]]) -> dict[str, Sequence[Any]]:
    """The columns of rows, the first of which is a header.

    Raises:
      InputError: two columns of a name, or rows longer or shorter than the header.
    """
    line, header = rows[0]
    columns = [column.lower() for column in header]
    _require_distinct_columns(f"{path}, line {line}", columns)
    for line, row in rows[1:]:
        if len(row) != len(columns):
            raise InputError(
                f"{path}, line {line}: {count(len(row), 'cell')} where the header has {len(columns)} "
                "(a cell that has the separator in it needs double quotes)"
            )
    if len(rows) == 1:
        raise InputError(f"{path}: no trials in it, only a header")
    return dict(zip(columns, zip(*(row for _, row in rows[1:]), strict=True), strict=True))


def _require_distinct_columns(where: str, columns: Sequence[str]) -> None:
    if repeated := [column for column, number in Counter(columns).items() if number > 1]:
        raise InputError(f"{where}: several columns called {', '.join(map(repr, repeated))}")


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in text_lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            # The hook is called for objects inside, too, whose names nobody reads.
            row = json.loads(line, object_pairs_hook=list)
        except RecursionError as error:
            raise InputError(f"{where}: JSON nested too deeply for a table of trials") from error
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise InputError(f"{where}: not valid JSON: {reason}") from error
        # An object comes from the hook as pairs, which a JSON array has no tuples for; an empty one looks like `[]`.
        if not isinstance(row, list) or not (line.lstrip().startswith("{")):
            raise InputError(f"{where}: a JSON object was expected, found {line.strip()[:80]!r}")
        names = [name.lower() for name, _ in row]
        _require_distinct_columns(where, names)
        yield dict(zip(names, (value for _, value in row), strict=True))


def _by_column(rows: Iterator[dict[str, Any]]) -> dict[str, Sequence[Any]]:
    columns: dict[str, list[Any]] = {}
    for seen, row in enumerate(rows):
        for name in row.keys() - columns.keys():
            columns[name] = [None] * seen
        for name, values in columns.items():
            values.append(row.get(name))
    return dict(columns)


def _parquet_columns(path: Path) -> dict[str, Sequence[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_plain_file(path)
    with reading_parquet(path), pq.ParquetFile(path) as file:
        names = [field.name for field in file.schema_arrow]
        _require_distinct_columns(str(path), [name.lower() for name in names])
        # Columns of structs hold audio and the like: gigabytes, and nothing that a table of trials needs.
        wanted = [field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)]
        table = file.read(columns=wanted)
    return {name.lower(): table.column(name).to_pylist() for name in table.column_names}


def column_of(path: Path | str, columns: Mapping[str, Any], role: Role) -> str | None:
    """The name of the column that has a role, None where there is none.

    Raises:
      InputError: several could have it.
    """
    documented, *others = COLUMN_NAMES[role]
    if documented in columns:
        return documented
    found = [name for name in columns if column_name(name) in others]
    if len(found) > 1:
        raise InputError(
            f"{path}: the columns {' and '.join(f'`{name}`' for name in found)} could both be the {role}; "
            f"name the right one `{documented}`"
        )
    return found[0] if found else None


def take_ids(path: Path | str, columns: dict[str, Sequence[Any]], match: Match = "exact") -> list[str]:
    """The trials' ids: of the column of ids, which is taken out of `columns`, or the stems of the column of paths.

    Args:
      path: of the table, for messages.
      columns: of the table.
      match: how ids will be compared with those of another file; see `Match`.

    Raises:
      InputError: neither column is there, it is not clear which it is, or ids are empty or occur more than once.
    """
    name, paths = column_of(path, columns, "utterance_id"), column_of(path, columns, "path")
    note = ""
    if match == "path" and paths is not None:
        ids = [normal_path(as_text(value)) for value in columns[paths]]
    elif name == "id" and paths is not None:
        raise InputError(
            f"{path}: the columns `id` and `{paths}` could both name the trials; name the right one `utterance_id`"
        )
    elif name is not None:
        ids = matched([as_text(value) for value in columns.pop(name)], match)
    elif paths is not None:
        # As `score` names them. Columns of other names often have ids, whose dots need not begin an extension.
        exactly = paths == "path" and match == "exact"
        ids = [Path(as_text(value)).stem if exactly else stem(as_text(value)) for value in columns[paths]]
        note = f"\nThe ids are the file names in the column `{paths}`: --match path takes whole paths instead."
    else:
        raise InputError(f"{path}: no column `utterance_id` or `path`; it has {', '.join(columns) or 'none'}")
    require_ids(path, ids, note)
    return ids


def matched(ids: Sequence[str], match: Match) -> list[str]:
    """Ids in the form in which they are compared."""
    if match == "exact":
        return list(ids)
    return list(map(stem if match == "stem" else normal_path, ids))


def stem(text: str) -> str:
    """A file name without folder and extension. A part such as `.5` is no extension: a letter comes first in those."""
    name = re.split(r"[\\/]", text)[-1]
    return re.sub(r"(?<=.)\.[A-Za-z][A-Za-z0-9]{1,4}$", "", name)


def normal_path(text: str) -> str:
    """A path in its shortest form, with slashes: `./a//b.wav` -> `a/b.wav`."""
    return os.path.normpath(text.replace("\\", "/")) if text else text


def require_ids(path: Path | str, ids: Sequence[str], note: str = "") -> None:
    """See that there are ids, none of them empty and each once.

    Args:
      path: of the table, for messages.
      ids: of its trials.
      note: what a message adds about ids that occur more than once.

    Raises:
      InputError: what is wrong, with counts and examples.
    """
    if not ids:
        raise InputError(f"{path}: no trials in it")
    if empty := sum(not identity for identity in ids):
        raise InputError(f"{path}: {count(empty, 'trial')} without an utterance_id")
    if len(set(ids)) < len(ids):
        shared = [f"{identity}: {times} times" for identity, times in Counter(ids).items() if times > 1]
        raise InputError(
            f"{path}: {count(len(shared), 'utterance id')} occurring more than once:{examples(shared)}{note}"
        )


def as_column(values: Sequence[Any]) -> np.ndarray:
    """float64 with NaN where all that is there are numbers, and text otherwise."""
    if all(isinstance(value, float | int | None) and not isinstance(value, bool) for value in values):
        try:
            return np.array([math.nan if value is None else value for value in values], np.float64)
        except OverflowError:  # an integer beyond float64's range
            return np.array([as_text(value) for value in values], object)
    texts = [as_text(value) for value in values]
    # A CSV has no types: a column of numbers is one.
    if any(texts) and all(not text or is_number(text) for text in texts):
        return np.array([text or "nan" for text in texts]).astype(np.float64)
    return np.array(texts, object)


def as_text(value: Any) -> str:
    return "" if value is None else str(value)


def is_number(value: Any) -> bool:
    """Whether a cell is a number, NaN and infinity among them: not Python's `1_000`, nor a bool."""
    if isinstance(value, bool) or (isinstance(value, str) and ("_" in value or not value.isascii())):
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
