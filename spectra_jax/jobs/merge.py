"""From all parts of a run to its score file, and to the reasons of its skipped trials."""

from __future__ import annotations

import pyarrow.compute as pc

from spectra_jax.data.score_files import score_line
from spectra_jax.errors import InputError, UnusableFileError
from spectra_jax.jobs.parts import read_part
from spectra_jax.jobs.store import Store

SCORES = "scores.txt"


def write_scores(store: Store, num_parts: int, *, escape_ids: bool = False) -> tuple[int, int]:
    """Write the score file of all parts, in input order.

    Returns:
      How many trials it has, and how many were skipped.

    Raises:
      InputError: a part is damaged.
    """
    scored = skipped = 0
    with store.writing(SCORES) as file:
        for part in range(num_parts):
            try:
                table = read_part(store, part, ["utterance_id", "score"])
            except UnusableFileError as error:
                raise InputError(f"{error}; the same command scores it again") from error
            for name, score in zip(*(column.to_pylist() for column in table.columns), strict=True):
                if score is None:
                    skipped += 1
                else:
                    file.write(score_line(name, score, escape=escape_ids).encode())
                    scored += 1
    return scored, skipped


def skip_reasons(store: Store, num_parts: int, limit: int) -> list[tuple[str, str]]:
    """The first few skipped trials, at most `limit`: their ids and the reasons."""
    found: list[tuple[str, str]] = []
    for part in range(num_parts):
        table = read_part(store, part, ["utterance_id", "error"])
        rows = table.filter(pc.is_valid(table["error"])).to_pylist()
        found += [(row["utterance_id"], row["error"]) for row in rows]
        if len(found) >= limit:
            break
    return found[:limit]
