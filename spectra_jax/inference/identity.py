"""What scores depend on, and the record of it in a run's directory, against which resuming is checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.errors import InputError
from spectra_jax.messages import examples
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import SpectraAASIST3

RUN = "run.json"
_CHECKSUM = "sha256"


def score_identity(
    source: str | Path | SpectraAASIST3,
    precision: Precision,
    batch_size: int,
    *,
    diagnostics: bool = False,
    certify: bool = False,
) -> dict[str, Any]:
    """What the scores of a `spectra_jax.Scorer` depend on besides the clips, as plain values. Nothing is loaded.

    Args:
      source, precision, diagnostics, certify: as for the Scorer.
      batch_size: that it scores with.
    """
    if isinstance(source, SpectraAASIST3):
        config, digest = source.config, hashlib.sha256()
        for leaf in jax.tree.leaves(nnx.state(source)):
            digest.update(np.asarray(leaf).tobytes())
        weights_sha256 = digest.hexdigest()
    else:
        checkpoint = open_checkpoint(source)
        config, weights_sha256 = checkpoint.config, checkpoint.sha256()
    return {
        "weights_sha256": weights_sha256,
        "config": config.to_dict(),
        "precision": precision.name,
        "batch_size": batch_size,
        "diagnostics": diagnostics,
        "certify": certify,
    }


def encode_record(values: Mapping[str, Any]) -> bytes:
    """The text of a run's record, with a checksum of its values."""
    plain = json.loads(json.dumps(values, default=list))
    return (json.dumps({**plain, _CHECKSUM: digest_of(plain)}, indent=2) + "\n").encode()


def digest_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, independent of their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def require_same(
    record: str | bytes, identity: Mapping[str, Any], *, folder: str, key: str | None = None, advice: str = ""
) -> None:
    """Raise unless a directory's record is of the run with this identity.

    Args:
      record: the text of the file.
      identity: plain values for JSON.
      folder: the directory's name in messages.
      key: under which the record has the identity; otherwise the record is the identity.
      advice: what else can be done about a damaged record.

    Raises:
      InputError: it is damaged, or of another run: what differs is named.
    """
    try:
        recorded = json.loads(record)
        # Earlier versions wrote no checksum.
        if recorded.pop(_CHECKSUM, digest_of(recorded)) != digest_of(recorded):
            raise ValueError("its checksum does not match its content")
        recorded = recorded if key is None else recorded[key]
    # RecursionError: deeply nested brackets.
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder}: its {RUN} is damaged ({error}); give another folder{advice}") from error
    differing = list(_differences(recorded, json.loads(json.dumps(identity))))
    if differing:
        raise InputError(f"{folder} holds another run; give another folder. What differs:{examples(differing)}")


def _differences(recorded: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(recorded, Mapping) and isinstance(now, Mapping):
        for key in [*now, *(key for key in recorded if key not in now)]:
            yield from _differences(recorded.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif recorded != now:
        yield f"{name}: recorded {json.dumps(recorded)}, now {json.dumps(now)}"
