"""Recordings of any kind, as a caller of the library has them, as trials."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from spectra_jax.data.sources.remote import is_url
from spectra_jax.data.trial import MAX_CLIP_BYTES, Trial

Recording: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | np.ndarray | tuple[ArrayLike, int]
)
"""A path, a URL, the bytes of an audio file, an open file, samples, or samples with their sample rate.

Samples are (samples,) or (samples, channels), floats or integer PCM, as `spectra_jax.audio.to_mono` takes them.
"""


def trial_of(
    recording: Recording, sample_rate: int | None = None, *, name: str | None = None, max_bytes: int = MAX_CLIP_BYTES
) -> Trial:
    """A recording as a trial. Nothing is decoded, and of a path or URL nothing is read.

    Args:
      recording: see `Recording`. An open file is read from its position to its end.
      sample_rate: of samples, in Hz; None for everything else.
      name: what results and messages call it; by default its path, URL or file name.
      max_bytes: the largest file that is read from a URL or an open file.

    Raises:
      TypeError: not a recording.
      ValueError: samples without a sample rate, or anything else with one.
    """
    if isinstance(recording, tuple):
        if sample_rate is not None or len(recording) != 2:
            raise ValueError("a tuple is samples with their sample rate: (samples, 16000)")
        recording, sample_rate = np.asarray(recording[0]), recording[1]
    if isinstance(recording, np.ndarray):
        if sample_rate is None:
            raise ValueError("samples need a sample rate: scorer(samples, 16000)")
        name = name or "samples"
        return Trial(name, name, samples=(recording, sample_rate))
    if sample_rate is not None:
        raise ValueError(f"a sample rate of {sample_rate}, but only samples take one: files state their own")
    if isinstance(recording, str | os.PathLike):
        path = recording if isinstance(recording, str) and is_url(recording) else Path(recording)
        return Trial(name or str(recording), path, max_bytes=max_bytes)
    if isinstance(recording, bytes | bytearray | memoryview):
        return _trial_of_content(bytes(recording), name or "recording", max_bytes)
    if hasattr(recording, "read"):
        content: Any = recording.read(max_bytes + 1)
        if not isinstance(content, bytes):
            raise TypeError(f"{recording!r} was opened as text: open it with mode 'rb'")
        file_name = getattr(recording, "name", None)
        return _trial_of_content(content, name or (file_name if isinstance(file_name, str) else "recording"), max_bytes)
    raise TypeError(
        f"{type(recording).__name__}: a path, a URL, bytes, an open file, or an array with its sample rate is expected"
    )


def _trial_of_content(content: bytes, name: str, max_bytes: int) -> Trial:
    if len(content) > max_bytes:
        return Trial(name, name, problem=f"{name}: more than the {max_bytes:,} bytes that are read into memory")
    return Trial(name, name, content=content)
