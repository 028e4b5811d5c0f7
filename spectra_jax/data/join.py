"""Joining two sets of trials by utterance id.

    joined = join(scores.utterance_ids, labels.utterance_ids)
    scores.scores[joined.left], labels.bonafide[joined.right]     # of the trials that both have, in the scores' order
    joined.only_left                                              # ids that have a score and no label

Each id occurs once in its set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Ids = np.ndarray | Sequence[str]


@dataclass(frozen=True)
class Join:
    """Two sets of trials, joined.

    Attributes:
      left: (n,) int64 rows of the left set whose ids the right one has too, ascending.
      right: (n,) int64, for each of them the row of the right set with the same id.
      only_left: ids that only the left set has, in its order.
      only_right: ids that only the right set has, in its order.
    """

    left: np.ndarray
    right: np.ndarray
    only_left: list[str]
    only_right: list[str]


def join(left: Ids, right: Ids) -> Join:
    """Join two sets of trials by their ids.

    Args:
      left: (n,) ids.
      right: (m,) ids.
    """
    rows = rows_of(left, right)
    found = np.flatnonzero(rows >= 0)
    missing = np.ones(len(right), bool)
    missing[rows[found]] = False
    return Join(
        found,
        rows[found],
        [str(left[row]) for row in np.flatnonzero(rows < 0).tolist()],
        [str(right[row]) for row in np.flatnonzero(missing).tolist()],
    )


def rows_of(ids: Ids, table: Ids) -> np.ndarray:
    """(n,) int64, for each of the n `ids` its row among the ids of a table; -1 if it has none."""
    row = dict(zip(table, range(len(table)), strict=True))
    return np.array([row.get(identity, -1) for identity in ids], np.int64)
