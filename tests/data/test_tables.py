"""Tables in every format: the same rows and columns, types of columns, and what is refused."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectra_jax.data.tables import as_column, column_of, is_number, read_columns, read_rows, read_text_rows
from spectra_jax.errors import InputError

ROWS = [{"Path": "a.wav", "label": "spoof", "n": "007"}, {"Path": "b c.wav", "label": "", "n": "1e3"}]
COLUMNS = {"path": ["a.wav", "b c.wav"], "label": ["spoof", ""], "n": ["007", "1e3"]}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def write(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"table{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        delimiter = "," if suffix == ".csv" else "\t"
        path.write_text("".join(delimiter.join(cells) + "\n" for cells in ([*rows[0]], *(r.values() for r in rows))))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_the_same_in_every_format(tmp_path: Path, suffix: str) -> None:
    columns = read_columns(write(tmp_path, suffix, ROWS))
    # Numbers in text tables stay text: `007` is an id.
    assert {name: list(values) for name, values in columns.items()} == COLUMNS


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_the_same_in_every_format(tmp_path: Path, suffix: str) -> None:
    with write(tmp_path, suffix, ROWS).open("rb") as file:
        rows = list(read_rows("table", file, suffix, ["path", "label", "n"]))
    assert [dict(cells) for _, cells in rows] == [
        dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)
    ]
    first = {".jsonl": "table, line 1", ".parquet": "table, row 0"}.get(suffix, "table, line 2")
    assert rows[0][0] == first


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_need_the_first_column(tmp_path: Path, suffix: str) -> None:
    with write(tmp_path, suffix, ROWS).open("rb") as file:
        rows = read_rows("table", file, suffix, ["utterance_id", "label"])
        if suffix == ".jsonl":
            # Each row has its own names.
            assert "utterance_id" not in next(rows)[1]
            return
        with pytest.raises(InputError, match="no column `utterance_id`; it has path, label, n"):
            next(rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_columns_of_one_name(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix, [{"path": "a", "N": "1", "n": "2"}])
    with pytest.raises(InputError, match="several columns called 'n'"):
        read_columns(path)
    # Names of columns that are not wanted may be anything.
    with path.open("rb") as file:
        ((_, cells),) = read_rows("table", file, suffix, ["path"])
    assert cells["path"] == "a"
    with path.open("rb") as file, pytest.raises(InputError, match="several columns called 'n'"):
        list(read_rows("table", file, suffix, ["path", "n"]))


def test_a_row_is_read_at_a_time() -> None:
    rows = read_rows("m.csv", io.BytesIO(b"path\na\nb\nc,d\n"), ".csv", ["path"])
    assert next(rows) == ("m.csv, line 2", {"path": "a"})
    assert next(rows) == ("m.csv, line 3", {"path": "b"})
    with pytest.raises(InputError, match=r"m\.csv, line 4: 2 cells where the header has 1"):
        next(rows)


def test_rows_of_a_list_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\ufeff\na  b c\n\n d,1\te f\n")
    assert read_text_rows(path) == [(2, ["a", "b", "c"]), (4, ["d,1", "e", "f"])]
    path.write_text("\n \n")
    with pytest.raises(InputError, match=r"list\.txt: no trials in it"):
        read_text_rows(path)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, 2.5], [1, math.nan, 2.5]),
        (["1", "", "5e0"], [1, math.nan, 5]),
        (["1_000", "2"], ["1_000", "2"]),
        ([True, False], ["True", "False"]),
        ([10**400, 1], ["1" + "0" * 400, "1"]),
        (["", ""], ["", ""]),
        (["a", None], ["a", ""]),
    ],
)
def test_the_type_of_a_column(values: list[Any], expected: list[Any]) -> None:
    column = as_column(values)
    assert column.dtype == (object if isinstance(expected[0], str) else np.float64)
    np.testing.assert_array_equal(column, np.array(expected, column.dtype))


def test_numbers_in_cells() -> None:
    assert all(map(is_number, ["1", "-1e-3", "nan", " inf ", 3, 0.5]))
    assert not any(map(is_number, ["", "1_000", "\uff10", "a", True, None, 10**400]))


def test_the_column_of_a_role() -> None:
    assert column_of("m.csv", {"CM-Score": 0, "id": 0}, "score") == "CM-Score"
    assert column_of("m.csv", {"score": 0, "cm_score": 0}, "score") == "score"
    assert column_of("m.csv", {"id": 0}, "score") is None
    with pytest.raises(InputError, match=r"m\.csv: the columns `scores` and `cm-score` could both be the score"):
        column_of("m.csv", {"scores": 0, "cm-score": 0}, "score")
