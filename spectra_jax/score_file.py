"""Reading score files: those that `spectra-jax score` writes, and those that others publish.

    scores = read_scores("scores.txt")      # .txt (the Arena's), .csv, .tsv, .jsonl or .parquet

A `.txt` line is `<utterance_id> <score>`. The others need `utterance_id` and `score`; whatever else they hold is kept
as columns. A row without a score is a skipped trial. Nothing is guessed at: a score that is no finite number, or an id
that occurs twice, is an error that names the line.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from spectra_jax.trials import MANIFEST_DELIMITERS, InputError, count, csv_rows, examples, read_text, reading_parquet

RANK_GAP = "smallest_rank_gap"
RANK_GAP_POOL = "rank_gap_pool"


# One space separates id and score and one trial is a line, in UTF-8 (which has no surrogates).
_NOT_PLAIN = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_plain(utterance_id: str) -> bool:
    """Whether the Arena's score file can hold an id: no white space, control character or surrogate."""
    return _NOT_PLAIN.search(utterance_id) is None


def escape_id(utterance_id: str) -> str:
    """An id as the Arena's score file can hold it: white space, control characters and `%` as `%XX`, as in a URL.

    `urllib.parse.unquote` gives the id again. A byte of a file name that is not UTF-8 is `\\udcXX`, as in other files.
    """
    text = utterance_id.encode(errors="backslashreplace").decode()
    return re.sub(r"[%\s\x00-\x1f\x7f-\x9f]", lambda found: quote(found[0]), text)


def score_line(utterance_id: str, score: float, *, escape: bool = False) -> str:
    """A line of the Arena's score file, with `escape` of an id that `escape_id` has made fit for it.

    Raises:
      InputError: the file cannot hold the id.
    """
    if escape:
        utterance_id = escape_id(utterance_id)
    elif not is_plain(utterance_id):
        raise InputError(
            f"{utterance_id!r}: an id with white space, control characters or bytes that are not UTF-8, which a .txt "
            "score file cannot hold; write a .csv or .jsonl, or escape such characters"
        )
    return f"{utterance_id} {score:.6f}\n"


@dataclass(frozen=True)
class Scores:
    """A system's scores: higher = more bona fide.

    Attributes:
      name: what to call the system: the file's name otherwise.
      utterance_ids: (n,) strings, each once.
      scores: (n,) float64, finite.
      columns: (n,) arrays by name, such as `label`, `attack`, `smallest_rank_gap`: text, or float64 with NaN where
        there is none.
      skipped: trials without a score, and why.
    """

    name: str
    utterance_ids: np.ndarray
    scores: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def rank_gaps(self) -> np.ndarray | None:
        """(n,) smallest rank gap of each trial, NaN where unknown; None where the file has none."""
        return self.columns.get(RANK_GAP)


def read_scores(path: str | Path, name: str | None = None) -> Scores:
    """Read a score file; see the top of this file for what it may be.

    Args:
      path: ends in .txt, .csv, .tsv, .jsonl or .parquet.
      name: what to call the system in messages and reports.

    Raises:
      InputError: not there, not such a file, a score that is no finite number, ids that are empty or shared, no score
        at all: with counts and examples.
    """
    path = Path(path)
    name = name or path.name
    suffix = path.suffix.lower()
    if suffix == ".txt":
        ids, scores = _read_txt(path)
        return _checked(path, name, ids, scores, {})
    if suffix not in (*MANIFEST_DELIMITERS, ".jsonl", ".parquet"):
        raise InputError(f"{path}: no known kind of score file; its name ends in .txt, .csv, .tsv, .jsonl or .parquet")
    columns = read_columns(path)
    for needed in ("utterance_id", "score"):
        if needed not in columns:
            raise InputError(f"{path}: no column `{needed}`; it has {', '.join(columns) or 'none'}")
    return _checked(path, name, [_text(value) for value in columns.pop("utterance_id")], columns.pop("score"), columns)


def read_columns(path: Path) -> dict[str, Sequence[Any]]:
    """Every column of a .csv, .tsv, .jsonl or .parquet file, by its name; names in lower case.

    Raises:
      InputError: not there, or not what its name says; the line is named.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_columns(path)
    if suffix == ".jsonl":
        return _by_column(_json_rows(path))
    rows = csv_rows(path)
    line, header = next(rows, (0, []))
    columns = [column.lower() for column in header]
    if not columns:
        raise InputError(f"{path}: empty; the first line names the columns")
    if repeated := [column for column, number in Counter(columns).items() if number > 1]:
        raise InputError(f"{path}, line {line}: several columns called {', '.join(map(repr, repeated))}")
    table: list[list[str]] = [[] for _ in columns]
    for line, row in rows:
        if len(row) != len(columns):
            raise InputError(f"{path}, line {line}: {count(len(row), 'cell')} where the header has {len(columns)}")
        for cells, cell in zip(table, row, strict=True):
            cells.append(cell)
    return dict(zip(columns, table, strict=True))


def _read_txt(path: Path) -> tuple[list[str], list[str]]:
    ids, scores = [], []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        fields = line.split()
        if len(fields) == 2:
            ids.append(fields[0])
            scores.append(fields[1])
        elif fields:
            raise InputError(
                f"{path}, line {number}: {count(len(fields), 'field')}, but a line is `<utterance_id> <score>`: "
                f"{line.strip()[:80]!r}"
            )
    return ids, scores


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: no JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: a JSON object was expected, found {line.strip()[:80]!r}")
        yield {key.lower(): value for key, value in row.items()}


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

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with reading_parquet(path), pq.ParquetFile(path) as file:
        # Columns of structs hold audio and the like: gigabytes, and nothing that a table of trials needs.
        wanted = [field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)]
        table = file.read(columns=wanted)
    return {name.lower(): table.column(name).to_pylist() for name in table.column_names}


def _checked(
    path: Path, name: str, ids: Sequence[str], given: Sequence[Any], columns: Mapping[str, Sequence[Any]]
) -> Scores:
    if not ids:
        raise InputError(f"{path}: no trials in it")
    if empty := sum(not identity for identity in ids):
        raise InputError(f"{path}: {count(empty, 'trial')} without an utterance_id")
    require_distinct(path, ids)
    try:
        scores = np.array([math.nan if value is None or value == "" else value for value in given], np.float64)
        if scores.ndim != 1:
            raise ValueError
    except (TypeError, ValueError):
        wrong = [f"{identity}: {value!r}" for identity, value in zip(ids, given, strict=True) if not _is_number(value)]
        raise InputError(f"{path}: {count(len(wrong), 'score')} that are no numbers:{examples(wrong)}") from None
    present = np.array([value is not None and value != "" for value in given], bool)
    bad = [f"{ids[index]}: {given[index]}" for index in np.flatnonzero(present & ~np.isfinite(scores)).tolist()]
    if bad:
        raise InputError(f"{path}: {count(len(bad), 'score')} NaN or infinite:{examples(bad)}")
    if not present.any():
        raise InputError(f"{path}: {count(len(ids), 'trial')} and not one score")
    reasons = columns.get("error") or [None] * len(ids)
    skipped = {ids[index]: _text(reasons[index]) or "no score" for index in np.flatnonzero(~present).tolist()}
    kept = {column: as_column(values)[present] for column, values in columns.items()}
    return Scores(name, np.array(ids, object)[present], scores[present], kept, skipped)


def require_distinct(path: Path, ids: Sequence[str]) -> None:
    """See that no id occurs twice.

    Raises:
      InputError: how many do, and examples.
    """
    if len(set(ids)) < len(ids):
        shared = [f"{identity}: {times} times" for identity, times in Counter(ids).items() if times > 1]
        raise InputError(f"{path}: {count(len(shared), 'utterance id')} occurring more than once:{examples(shared)}")


def as_column(values: Sequence[Any]) -> np.ndarray:
    """float64 with NaN where all that is there are numbers, and text otherwise."""
    if all(isinstance(value, float | int | None) and not isinstance(value, bool) for value in values):
        return np.array([math.nan if value is None else value for value in values], np.float64)
    texts = [_text(value) for value in values]
    # A CSV has no types: a column of numbers is one.
    if any(texts) and all(not text or _is_number(text) for text in texts):
        return np.array([text or "nan" for text in texts]).astype(np.float64)
    return np.array(texts, object)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _is_number(value: Any) -> bool:
    if value is None or value == "":
        return True
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
