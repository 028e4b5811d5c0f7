"""A trial: one clip to score. `spectra_jax.data.sources` finds trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Label = Literal["bonafide", "spoof"]

MAX_CLIP_BYTES = 1 << 30
"""The largest clip that is read into memory, from a URL or a tar shard."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One clip to score.

    Attributes:
      utterance_id: unique among the trials scored together; any text.
      path: of the audio file, which need not exist; text if it is a URL.
      label: "bonafide" (a real person's voice), "spoof", or None if it is not known.
      content: the audio file's bytes, if they are in a shard; `path` is then the location in the shard.
      samples: of a clip in memory, (samples,) or (samples, channels), and its sample rate; `path` is then its name.
      stamp: short text that changes when the file does, such as its size and time of modification; None if unknown.
        A clip in a tar or parquet shard has the shard's.
      problem: why there is no clip to decode, if its source already knows.
      fallbacks: ids to try, in this order, if another trial has the same `utterance_id`; none for an id that a
        manifest states.
      max_bytes: how much is read into memory from `path` at most, if that is a URL.
    """

    utterance_id: str
    path: Path | str
    label: Label | None = None
    content: bytes | None = field(default=None, repr=False)
    samples: tuple[Any, int] | None = field(default=None, compare=False, repr=False)
    stamp: str | None = field(default=None, compare=False)
    problem: str | None = field(default=None, compare=False, repr=False)
    fallbacks: tuple[str, ...] = field(default=(), compare=False, repr=False)
    max_bytes: int = field(default=MAX_CLIP_BYTES, compare=False, repr=False)
