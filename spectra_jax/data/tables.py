"""Reading tables of trials: .csv, .tsv, .txt, .jsonl and .parquet, and which column is which.

    columns = read_columns(Path("meta.csv"))        # every column by its name, in lower case
    column_of("meta.csv", columns, "label")         # the name of the column with the labels, by `conventions.py`

A table with a header is read by `read_rows`, a row at a time, or by `read_columns`. A text table may also be a list,
whose fields are known by their number: `read_text_rows`. Cells of text tables are separated by the comma, semicolon,
bar or tab that the first line has, or else by white space.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from spectra_jax.data.conventions import COLUMN_NAMES, Role, column_name, known_names
from spectra_jax.data.text import open_plain_file, parse_object, text_lines
from spectra_jax.errors import InputError
from spectra_jax.messages import count, printable

# In the order in which a first line is searched for them.
_DELIMITERS = "\t|;,"
# Rows of a .parquet in memory at a time.
_BATCH = 8192

# A line number and the cells of that line.
TextRow = tuple[int, list[str]]


def read_columns(path: Path) -> dict[str, Sequence[Any]]:
    """Every column of a table with a header, by its name in lower case; those of a .parquet that are not nested.

    Raises:
      InputError: it cannot be read, or is not a table of the kind that its name states; the line is named.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        with open_plain_file(path) as file:
            return _columns_of_batches(_parquet_batches(path, file))
    if suffix != ".jsonl":
        return columns_of_text(path, read_text_rows(path))
    with open_plain_file(path) as file:
        columns = _columns_of_objects(cells for _, cells in _json_rows(path, file))
    if not columns:
        raise InputError(f"{path}: no trials in it")
    return columns


def read_rows(
    name: str, file: IO[bytes], suffix: str, columns: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a table with a header, a few in memory at a time: the location of each, for messages, and its cells.

    Args:
      name: of the table, for messages.
      file: to read from; a .parquet must be seekable.
      suffix: `.jsonl` or `.parquet`; any other is a text table.
      columns: names, in lower case, that must not occur twice; the first is required. Rows may have other columns, too.

    Raises:
      InputError: not a table of the kind that `suffix` states, or one without the first column; the line is named.
    """
    if suffix == ".parquet":
        yield from _parquet_rows(name, file, columns)
    elif suffix == ".jsonl":
        yield from _json_rows(name, file, columns)
    else:
        # A column of paths alone has no delimiter, and its paths may have spaces.
        rows = text_rows(name, file, suffix, otherwise="\t" if suffix == ".tsv" else ",")
        yield from _headed_rows(name, rows, columns)


# Text tables


def read_text_rows(path: Path) -> list[TextRow]:
    """All rows of a text table, its header included if it has one.

    Raises:
      InputError: it cannot be read, is empty, is not UTF-8 text, or has quotes that do not close; the line is named.
    """
    with open_plain_file(path) as file:
        rows = list(text_rows(path, file, path.suffix.lower()))
    if not rows:
        raise InputError(f"{path}: no trials in it")
    return rows


def text_rows(name: Path | str, file: IO[bytes], suffix: str, *, otherwise: str | None = None) -> Iterator[TextRow]:
    """Line number and stripped cells of each line that is not blank, a few lines in memory at a time.

    Args:
      name, file: as in `text_lines`.
      suffix: of a `.csv` or `.tsv`, a delimiter anywhere in the first line separates cells.
      otherwise: what separates cells where the first line has no delimiter; None for white space.

    Raises:
      InputError: as `text_lines`, or quotes that do not close.
    """
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in text_lines(name, file):  # noqa: B007 (for messages)
            yield line + "\n"

    remaining = lines()
    first = next((line for line in remaining if line.strip()), None)
    if first is None:
        return
    try:
        delimiter = _delimiter(suffix, first.strip()) or otherwise
        given = chain([first], remaining)
        rows = csv.reader(given, delimiter=delimiter, strict=True) if delimiter else map(str.split, given)
        for row in rows:
            if any(cell.strip() for cell in row):
                yield number, [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(f"{name}, line {number}: {error}") from error


def _delimiter(suffix: str, line: str) -> str | None:
    """The delimiter of the cells of a first line; None for white space."""
    present = [delimiter for delimiter in _DELIMITERS if delimiter in line]
    if not present:
        return None
    if suffix not in (".csv", ".tsv") and len(line.split()) > 1:
        # Ids of a list whose fields are separated by spaces may have commas, and tabs may align its columns.
        header = known_names(re.split(f"[{re.escape(_DELIMITERS)}]", line)) > 1
        if not header and not ("\t" in line and all(cell.strip() for cell in line.split("\t"))):
            return None
    # A header may have other delimiters within quotes. Where two would do, that of a .csv is the comma.
    present.sort(key=lambda delimiter: delimiter != "," or suffix != ".csv")
    return max(present, key=lambda delimiter: known_names(next(csv.reader([line], delimiter=delimiter))))


def columns_of_text(path: Path, rows: Sequence[TextRow]) -> dict[str, Sequence[str]]:
    """The columns of a text table whose first row is a header, by name in lower case.

    Raises:
      InputError: two columns of one name, or rows longer or shorter than the header.
    """
    names = _header(f"{path}, line {rows[0][0]}", rows[0][1])
    cells = [_of_width(path, row, len(names)) for row in rows[1:]]
    if not cells:
        raise InputError(f"{path}: no trials in it, only a header")
    return dict(zip(names, zip(*cells, strict=True), strict=True))


def _headed_rows(name: str, rows: Iterator[TextRow], columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    line, header = next(rows, (0, []))
    if not header:
        raise InputError(f"{name}: empty; the first line names the columns: {', '.join(columns)}")
    names = _header(f"{name}, line {line}", header, columns)
    _require_column(f"{name}, line {line}", names, columns[0])
    for row in rows:
        yield f"{name}, line {row[0]}", dict(zip(names, _of_width(name, row, len(names)), strict=True))


def _of_width(name: Path | str, row: TextRow, width: int) -> list[str]:
    line, cells = row
    if len(cells) != width:
        raise InputError(
            f"{name}, line {line}: {count(len(cells), 'cell')} where the header has {width} "
            "(a cell that has the separator in it needs double quotes)"
        )
    return cells


def _header(location: str, names: Sequence[str], wanted: Collection[str] | None = None) -> list[str]:
    """Names of columns in lower case, of which those wanted, or all, occur once."""
    lower = [name.lower() for name in names]
    if len(set(lower)) < len(lower):
        counts = Counter(name for name in lower if wanted is None or name in wanted)
        if repeated := [name for name, times in counts.items() if times > 1]:
            raise InputError(f"{location}: several columns called {', '.join(map(repr, repeated))}")
    return lower


def _require_column(location: str, names: Collection[str], required: str) -> None:
    if required not in names:
        raise InputError(f"{location}: no column `{required}`; it has {', '.join(map(printable, names)) or 'none'}")


# JSON lines


def _json_rows(
    name: Path | str, file: IO[bytes], columns: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in text_lines(name, file):
        if line.strip():
            location = f"{name}, line {number}"
            cells = parse_object(location, line)
            names = _header(location, list(cells), columns)
            yield location, dict(zip(names, cells.values(), strict=True))


def _columns_of_objects(rows: Iterator[dict[str, Any]]) -> dict[str, Sequence[Any]]:
    columns: dict[str, list[Any]] = {}
    for seen, row in enumerate(rows):
        for name in row.keys() - columns.keys():
            columns[name] = [None] * seen
        for name, values in columns.items():
            values.append(row.get(name))
    return dict(columns)


# Parquet


@contextmanager
def reading_parquet(name: Path | str) -> Iterator[None]:
    """Errors of pyarrow inside as an `InputError` that names the file.

    Raises:
      InputError: the file cannot be read.
    """
    import pyarrow as pa

    try:
        yield
    # OSError: a damaged footer, too. UnicodeDecodeError: text that is not UTF-8.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: not a readable parquet file: {str(error).splitlines()[0]}") from error


def _parquet_batches(name: Path | str, file: IO[bytes], columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The batches of rows of a .parquet, with the columns wanted, or all that are not nested, in lower case."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading_parquet(name), pq.ParquetFile(file) as parquet:
        lower = _header(str(name), parquet.schema_arrow.names, columns)
        if columns is not None:
            _require_column(str(name), lower, columns[0])
        # Nested columns hold audio and the like: gigabytes, and nothing that a table of trials needs.
        wanted = {
            field.name: given
            for field, given in zip(parquet.schema_arrow, lower, strict=True)
            if (given in columns if columns is not None else not pa.types.is_nested(field.type))
        }
        for batch in parquet.iter_batches(_BATCH, columns=list(wanted), use_threads=False):
            yield batch.rename_columns([wanted[column] for column in batch.schema.names])


def _columns_of_batches(batches: Iterator[Any]) -> dict[str, Sequence[Any]]:
    columns: dict[str, list[Any]] = {}
    for batch in batches:
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            columns.setdefault(name, []).extend(values.to_pylist())
    return dict(columns)


def _parquet_rows(name: str, file: IO[bytes], columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    row = 0
    for batch in _parquet_batches(name, file, columns):
        for cells in batch.to_pylist():
            yield f"{name}, row {row}", cells
            row += 1


# Columns and cells


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


def as_column(values: Sequence[Any]) -> np.ndarray:
    """(n,) float64, with NaN for an empty cell, if all other cells are numbers; otherwise (n,) text."""
    if all(isinstance(value, float | int | None) and not isinstance(value, bool) for value in values):
        try:
            return np.array([math.nan if value is None else value for value in values], np.float64)
        except OverflowError:  # an integer beyond float64's range
            return np.array([as_text(value) for value in values], object)
    texts = [as_text(value) for value in values]
    # A CSV has no types: a column whose cells are all numbers is a column of numbers.
    if any(texts) and all(not text or is_number(text) for text in texts):
        return np.array([text or "nan" for text in texts]).astype(np.float64)
    return np.array(texts, object)


def as_text(value: Any) -> str:
    """A cell as text, empty for None."""
    return "" if value is None else str(value)


def is_number(value: Any) -> bool:
    """Whether a cell is a number, NaN and infinity included: not Python's `1_000`, nor a bool."""
    if isinstance(value, bool) or (isinstance(value, str) and ("_" in value or not value.isascii())):
        return False
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
