"""What makes a run the same run: a record in its folder, against which resuming is checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from spectra_jax.errors import InputError
from spectra_jax.messages import examples

RUN = "run.json"
_CHECKSUM = "sha256"


def encode_record(values: Mapping[str, Any]) -> bytes:
    """The text of a run's record, with a checksum of what it says."""
    plain = json.loads(json.dumps(values, default=list))
    return (json.dumps({**plain, _CHECKSUM: digest_of(plain)}, indent=2) + "\n").encode()


def digest_of(values: Mapping[str, Any]) -> str:
    """sha256 of plain values, whatever their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def require_same(
    record: str | bytes, identity: Mapping[str, Any], *, folder: str, key: str | None = None, advice: str = ""
) -> None:
    """See that a folder's record, as it was written, is of this very run.

    Args:
      record: the text of the file.
      identity: plain values for JSON.
      folder: what messages call it.
      key: under which the record has the identity; it is the whole record otherwise.
      advice: what else can be done about a damaged record.

    Raises:
      InputError: it is damaged, or of another run: what differs is named.
    """
    try:
        before = json.loads(record)
        # An earlier version wrote none.
        if before.pop(_CHECKSUM, digest_of(before)) != digest_of(before):
            raise ValueError("its checksum is not that of what it says")
        before = before if key is None else before[key]
    # RecursionError: of brackets without end.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder}: its {RUN} is damaged ({error}); give another folder{advice}") from error
    differing = list(_differences(before, json.loads(json.dumps(identity))))
    if differing:
        raise InputError(f"{folder} holds another run; give another folder. What differs:{examples(differing)}")


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*now, *(key for key in before if key not in now)]:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif before != now:
        yield f"{name}: {json.dumps(before)} there, {json.dumps(now)} now"
