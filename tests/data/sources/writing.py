"""Functions that write inputs of every kind, and that call `collect`."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectra_jax.data.sources import InMemory, Trials, collect
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.decoding import decode_trial
from spectra_jax.model.config import SpectraConfig


def manifest(folder: Path, text: str | bytes, name: str = "trials.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(*inputs: str | Path, ids: str = "stem") -> str:
    """The message of `collect` for inputs that it refuses."""
    with pytest.raises(InputError) as caught:
        collect(inputs, ids=ids)  # type: ignore[arg-type]
    return str(caught.value)


def decoding_error(trial: Trial) -> str | None:
    """Why a trial's clip cannot be decoded; None if it can."""
    return decode_trial(trial, SpectraConfig()).error


def in_memory(trials: Iterable[Trial]) -> Trials:
    return Trials([InMemory(list(trials))])


def ids_of(*inputs: str | Path) -> list[str]:
    return [trial.utterance_id for trial in collect(inputs)]


ROWS: list[dict[str, object]] = [
    {"path": "a.flac", "utterance_id": "A", "label": "spoof", "speaker": 3},
    {"path": "/data/b.flac", "utterance_id": None, "label": "bona fide", "speaker": 4},
    {"path": "s3://bucket/c.flac", "utterance_id": "C", "label": None, "speaker": 5},
]


def summaries(trials: Trials) -> list[tuple[str, str, str | None]]:
    return [(trial.utterance_id, str(trial.path), trial.label) for trial in trials]


def write_rows(file: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=2)
    else:
        file.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return file


def write_tar(file: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file
