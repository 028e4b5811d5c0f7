"""What makes a run the same run: a record in its folder, against which going on is checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from spectra_jax.trials import InputError, examples


def require_same(record: str | bytes, identity: Mapping[str, Any], *, folder: str, key: str | None = None) -> None:
    """See that a folder's record, JSON as it was written, is of this very run.

    Args:
      record: the text of the file.
      identity: plain values for JSON.
      folder: what messages call it.
      key: under which the record has the identity; it is the whole record otherwise.

    Raises:
      InputError: it is damaged, or of another run: what differs is named.
    """
    try:
        before = json.loads(record)
        before = before if key is None else before[key]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: its run.json is damaged ({error}); give another folder, or remove it") from error
    differing = list(_differences(before, json.loads(json.dumps(identity))))
    if differing:
        raise InputError(f"{folder} holds another run; give another folder. What differs:{examples(differing)}")


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*now, *(key for key in before if key not in now)]:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield f"{name}: {json.dumps(before)} there, {json.dumps(now)} now"
