"""Utterance ids: where a table has them, in which form they are compared, and that each occurs once."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectra_jax.data.conventions import Match
from spectra_jax.data.tables import as_text, column_of
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples


def take_ids(path: Path | str, columns: dict[str, Sequence[Any]], match: Match = "exact") -> list[str]:
    """The trials' ids: from the column of ids, which is removed from `columns`, or the stems of the column of paths.

    Args:
      path: of the table, for messages.
      columns: of the table.
      match: how the ids will be compared with those of another file.

    Raises:
      InputError: the table has neither column, several could be it, or ids are empty or occur more than once.
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
        # The ids that `score` gives. Columns of other names often hold ids, whose dots need not begin an extension.
        exactly = paths == "path" and match == "exact"
        ids = [Path(as_text(value)).stem if exactly else stem(as_text(value)) for value in columns[paths]]
        note = f"\nThe ids are the file names in the column `{paths}`: --match path takes complete paths instead."
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
    """A file name without folder and extension. An extension begins with a letter: `.5` is none."""
    name = re.split(r"[\\/]", text)[-1]
    return re.sub(r"(?<=.)\.[A-Za-z][A-Za-z0-9]{1,4}$", "", name)


def normal_path(text: str) -> str:
    """A path in its shortest form, with slashes: `./a//b.wav` -> `a/b.wav`."""
    return os.path.normpath(text.replace("\\", "/")) if text else text


def require_ids(path: Path | str, ids: Sequence[str], note: str = "") -> None:
    """Check that there is an id for each trial, and that each occurs once.

    Args:
      path: of the table, for messages.
      ids: of its trials.
      note: added to the message about ids that occur more than once.

    Raises:
      InputError: what is wrong, with counts and examples.
    """
    if not ids:
        raise InputError(f"{path}: no trials in it")
    if empty := sum(not identity for identity in ids):
        raise InputError(f"{path}: {count(empty, 'trial')} without an utterance_id")
    if len(set(ids)) < len(ids):
        repeated = [f"{identity}: {times} times" for identity, times in Counter(ids).items() if times > 1]
        raise InputError(
            f"{path}: {count(len(repeated), 'utterance id')} occurring more than once:{examples(repeated)}{note}"
        )
