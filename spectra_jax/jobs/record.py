"""`run.json`: what a run is, and whether a folder belongs to it."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from spectra_jax.errors import InputError, UnusableFileError
from spectra_jax.inference.identity import RUN, digest_of, encode_record, require_same
from spectra_jax.jobs import checksummed, inputs, merge, parts
from spectra_jax.jobs.store import Store

_PACKAGES = ("spectra-jax", "jax", "jaxlib", "flax", "numpy", "scipy", "soundfile", "av")


def open_record(store: Store, identity: Mapping[str, Any], *, model: str, command: Sequence[str]) -> str:
    """Open a run's folder: write `run.json` into a new one, or check that it is that of the same run.

    Args:
      store: the folder.
      identity: what decides the scores and how they are stored, as plain values.
      model: the model's name.
      command: the words of the command that resumes the run.

    Returns:
      The run's digest, which all its files carry.

    Raises:
      InputError: the folder holds other files, or another run: what differs is named; or `run.json` is damaged.
    """
    digest = digest_of(identity)
    try:
        record = store.read(RUN)
    except FileNotFoundError:
        _check_folder_is_free(store, digest)
        known = {
            "run": identity,
            "model": model,
            "command": list(command),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
            "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        # Another process may have started the run at the same time; then its record is the one that counts.
        with suppress(FileExistsError):
            store.write(RUN, encode_record(known), replace=False)
        record = store.read(RUN)
    advice = ", or remove that file: the same command then resumes with its completed parts"
    require_same(record, identity, folder=store.root, key="run", advice=advice)
    return digest


def _check_folder_is_free(store: Store, digest: str) -> None:
    """Check that a folder without a record is new, or that its parts belong to the run with this digest."""
    numbers = sorted(parts.existing_parts(store))
    # Without parts, a score file may belong to anyone.
    known = (inputs.NAME, merge.SCORES) if numbers else (inputs.NAME,)
    if others := [name for name in store.names() if name not in known and name != RUN]:
        raise InputError(f"{store.root}: holds other files and no {RUN}, such as {others[0]}; give a folder of its own")
    unusable: UnusableFileError | None = None
    for number in numbers:
        try:
            checksummed.read(store, parts.file_name(number), digest)
            return
        except UnusableFileError as error:
            unusable = error
        except FileNotFoundError:
            continue
    if unusable is not None:
        raise InputError(f"{unusable}; and {store.root} has no {RUN}: give another folder")
