"""Scores of automatic speaker verification (ASV), as the ASVspoof challenges publish them.

    read_asv_scores("ASVspoof2019.LA.asv.eval.gi.trl.scores.txt")
    read_asv_scores("ASV/ASVtorch_kaldi/score.txt", key="ASV/trial_metadata.txt", subset="eval")

| challenge | scores | key |
| --- | --- | --- |
| 2019 | three fields a line, `<source> <key> <score>` | in the same file |
| 2021 | `<speaker> <utterance> <score>` | speaker and utterance first, the subset last, the key between them |
| 5 | a header with `asv-score`, and `sasv-score` for one system that does both | a header with `asv-label` |

The key of a trial is `target`, `nontarget` or `spoof`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectra_jax.data.conventions import column_name
from spectra_jax.data.join import join
from spectra_jax.data.tables import TextRow, is_number, read_text_rows
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples

KEYS = ("target", "nontarget", "spoof")


@dataclass(frozen=True)
class AsvTrials:
    """Trials of ASV.

    Attributes:
      name: of the file.
      keys: (n,) strings, each of `KEYS`.
      scores: (n,) float64, higher = more like the target.
      sasv_scores: (n,) scores of one system that verifies speakers and rejects spoofs; None if the file has none.
    """

    name: str
    keys: np.ndarray
    scores: np.ndarray
    sasv_scores: np.ndarray | None = None


def read_asv_scores(path: str | Path, key: str | Path | None = None, *, subset: str | None = None) -> AsvTrials:
    """Read scores of ASV of any of the kinds in the table above.

    Args:
      path: of the scores.
      key: of the file with the trials' keys; None where the scores have them.
      subset: take the trials of this subset alone, if the key states subsets.

    Raises:
      InputError: a file of another format, trials without a key or without a score, or an unknown subset.
    """
    path = Path(path)
    header, rows = _split_header(read_text_rows(path))
    if key is None:
        return _with_keys(path, header, rows, _key_field(path, rows))
    key = Path(key)
    _, key_rows = _split_header(read_text_rows(key))
    key_rows = _of_subset(key, key_rows, subset)
    joined = join(_trial_ids(path, rows), _trial_ids(key, key_rows))
    if joined.only_right:
        raise InputError(
            f"{key}: {count(len(joined.only_right), 'trial')} without a score in {path}:{examples(joined.only_right)}"
        )
    field = _key_field(key, key_rows)
    keys = [key_rows[row][1][field] for row in joined.right]
    return _trials(path, header, [rows[row] for row in joined.left], keys)


def _with_keys(path: Path, header: Sequence[str], rows: Sequence[TextRow], field: int) -> AsvTrials:
    return _trials(path, header, rows, [cells[field] for _, cells in rows])


def _split_header(rows: Sequence[TextRow]) -> tuple[list[str], Sequence[TextRow]]:
    """The names of the columns, empty without a header, and the trials."""
    names = [column_name(cell) for cell in rows[0][1]]
    header = any(name in ("asv_score", "sasv_score", "asv_label") for name in names)
    return (names, rows[1:]) if header else ([], rows)


def _key_field(path: Path, rows: Sequence[TextRow]) -> int:
    """The field that is `target`, `nontarget` or `spoof` in every row; ASVspoof writes no such word elsewhere."""
    width = min((len(cells) for _, cells in rows), default=0)
    fields = [index for index in range(width) if all(cells[index] in KEYS for _, cells in rows)]
    if not fields:
        raise InputError(
            f"{path}: no field that is {', '.join(KEYS)} in every line; if the keys are in a file of their own, give "
            "it with --asv-key"
        )
    return fields[0]


def _of_subset(path: Path, rows: Sequence[TextRow], subset: str | None) -> Sequence[TextRow]:
    if subset is None:
        return rows
    found = [row for row in rows if row[1][-1] == subset]
    if not found:
        known = ", ".join(sorted({cells[-1] for _, cells in rows})[:5])
        raise InputError(f"{path}: no trial of the subset {subset!r} in its last field, which has {known}")
    return found


def _trial_ids(path: Path, rows: Sequence[TextRow]) -> list[str]:
    """The speaker and the utterance of each trial. Raises InputError: a pair occurs twice."""
    ids = [" ".join(cells[:2]) for _, cells in rows]
    if len(set(ids)) < len(ids):
        raise InputError(f"{path}: {count(len(ids) - len(set(ids)), 'trial')} occurring more than once")
    return ids


def _trials(path: Path, header: Sequence[str], rows: Sequence[TextRow], keys: Sequence[str]) -> AsvTrials:
    if header and "asv_score" not in header:
        raise InputError(
            f"{path}: no column asv-score, which the t-DCF and the t-EER are of; its columns are {', '.join(header)}"
        )
    field = header.index("asv_score") if header else -1
    sasv = [cells[header.index("sasv_score")] for _, cells in rows] if "sasv_score" in header else None
    scores = _numbers(path, [(line, cells[field]) for line, cells in rows])
    return AsvTrials(
        path.name,
        np.array(keys),
        scores,
        None if sasv is None else _numbers(path, [(line, cell) for (line, _), cell in zip(rows, sasv, strict=True)]),
    )


def _numbers(path: Path, cells: Sequence[tuple[int, str]]) -> np.ndarray:
    invalid = [f"line {line}: {cell!r}" for line, cell in cells if not is_number(cell)]
    if invalid:
        raise InputError(f"{path}: {count(len(invalid), 'score')} without a numeric value:{examples(invalid)}")
    return np.array([float(cell) for _, cell in cells])
