"""Reading score files: those that `spectra-jax score` writes, and those that others publish.

    scores = read_scores("scores.txt")      # .txt (the Arena's), .csv, .tsv, .jsonl or .parquet

| file | recognised by |
| --- | --- |
| the Arena's, ASVspoof 2021's | two fields a line, `<utterance_id> <score>` |
| ASVspoof 2019's baselines | four fields a line, `<utterance_id> <attack> <label> <score>` |
| with a header | the names of its columns, `spectra_jax.data.conventions.COLUMN_NAMES`: an id or a path, and a score |

Whatever else a file holds is kept as columns. A row without a score is a skipped trial. Nothing is guessed: a score
that is not a finite number, or an id that occurs twice, is an error that names the trial.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from spectra_jax.data.conventions import COLUMN_NAMES, SCORE_FIELDS, Match, is_bonafide, known_names
from spectra_jax.data.tables import (
    as_column,
    as_text,
    column_of,
    headed,
    is_number,
    matched,
    read_columns,
    require_ids,
    take_ids,
    text_rows,
)
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples

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
      columns: (n,) arrays by name, in lower case, such as `label`, `attack`, `smallest_rank_gap`: text, or float64 with
        NaN where there is none.
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
        gaps = self.columns.get(RANK_GAP)
        # Without --diagnostics `score` leaves the column of a .csv empty, and an empty column is read as text.
        return None if gaps is None or (gaps.dtype.kind != "f" and not any(gaps)) else gaps


def read_scores(path: str | Path, name: str | None = None, *, match: Match = "exact") -> Scores:
    """Read a score file; see the top of this file for what it may be.

    Args:
      path: ends in .txt, .csv, .tsv, .jsonl or .parquet.
      name: what to call the system in messages and reports.
      match: how the ids will be compared with those of another file.

    Raises:
      InputError: not there, not such a file, a score that is not a finite number, ids that are empty or shared, no
        score at all: with counts and examples.
    """
    path = Path(path)
    name = name or path.name
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(
            f"{path}: not a known format of score files; its name must end in one of {', '.join(_SUFFIXES)}"
        )
    if suffix in (".jsonl", ".parquet"):
        return _of_columns(path, name, read_columns(path), match)
    rows = list(text_rows(path))
    if not rows:
        raise InputError(f"{path}: no trials in it")
    # A first trial may be called `file` or `key`.
    if known_names(rows[0][1]) and _fields(rows[0][1]) is None:
        return _of_columns(path, name, headed(path, rows), match)
    return _of_list(path, name, rows, match)


_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")


def _of_columns(path: Path, name: str, columns: dict[str, Sequence[Any]], match: Match) -> Scores:
    ids = take_ids(path, columns, match)
    given = column_of(path, columns, "score")
    if given is None:
        raise InputError(f"{path}: no column `score`; it has {', '.join(columns) or 'none'}")
    return _checked(path, name, ids, columns.pop(given), columns)


_PLAIN = ("utterance_id", "score")


def _fields(row: Sequence[str]) -> tuple[str, ...] | None:
    """The fields of a row of a list; None where it is none, such as a header."""
    if not is_number(row[-1]):
        return None
    if len(row) == len(SCORE_FIELDS) and is_bonafide(row[SCORE_FIELDS.index("label")]) is not None:
        return SCORE_FIELDS
    return _PLAIN if len(row) == len(_PLAIN) else None


def _of_list(path: Path, name: str, rows: Sequence[tuple[int, Sequence[str]]], match: Match) -> Scores:
    """The scores of a file without a header."""
    line, first = rows[0]
    width = len(first)
    fields = _fields(first) or (_PLAIN if width == len(_PLAIN) else None)
    if fields is None:
        raise InputError(
            f"{path}, line {line}: {count(width, 'field')}, but a line is `<utterance_id> <score>` or `<utterance_id> "
            f"<attack> <label> <score>`, or the first line names the columns: {' '.join(first)[:80]!r}"
        )
    for line, row in rows:
        if len(row) != width:
            raise InputError(
                f"{path}, line {line}: {count(len(row), 'field')}, but the first line has {width}: "
                f"{' '.join(row)[:80]!r}"
            )
    if not is_number(first[-1]) and all(is_number(row[-1]) for _, row in rows[1:]):
        known = "; ".join(f"{role}: {', '.join(names)}" for role, names in COLUMN_NAMES.items() if role != "label")
        raise InputError(
            f"{path}, line {rows[0][0]}: {' '.join(first)[:80]!r} is neither a trial with its score nor a header with "
            f"known names ({known})"
        )
    columns: dict[str, Sequence[Any]] = dict(zip(fields, zip(*(row for _, row in rows), strict=True), strict=True))
    ids = matched(columns.pop("utterance_id"), match)
    require_ids(path, ids)
    return _checked(path, name, ids, columns.pop("score"), columns)


def _checked(
    path: Path, name: str, ids: Sequence[str], given: Sequence[Any], columns: Mapping[str, Sequence[Any]]
) -> Scores:
    present = np.array([value is not None and value != "" for value in given], bool)
    wrong = [
        f"{identity}: {value!r:.80}"
        for identity, value, there in zip(ids, given, present, strict=True)
        if there and not is_number(value)
    ]
    if wrong:
        what = "score that is not a number" if len(wrong) == 1 else f"{len(wrong):,} scores that are not numbers"
        raise InputError(f"{path}: {'1 ' if len(wrong) == 1 else ''}{what}:{examples(wrong)}")
    scores = np.array([float(value) if there else math.nan for value, there in zip(given, present, strict=True)])
    bad = [f"{ids[index]}: {given[index]}" for index in np.flatnonzero(present & ~np.isfinite(scores)).tolist()]
    if bad:
        raise InputError(f"{path}: {count(len(bad), 'score')} NaN or infinite:{examples(bad)}")
    if not present.any():
        raise InputError(f"{path}: {count(len(ids), 'trial')} and not one score")
    reasons = columns.get("error") or [None] * len(ids)
    skipped = {ids[index]: as_text(reasons[index]) or "no score" for index in np.flatnonzero(~present).tolist()}
    kept = {column: as_column(values)[present] for column, values in columns.items()}
    return Scores(name, np.array(ids, object)[present], scores[present], kept, skipped)
