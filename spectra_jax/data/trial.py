"""A trial: one clip to score. Trials come from `spectra_jax.data.sources`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Label = Literal["bonafide", "spoof"]

# Of a clip that is read into memory whole: from a URL or a tar shard.
MAX_CLIP_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Trial:
    """One clip to score.

    Attributes:
      utterance_id: unique among the trials scored together; any text.
      path: of the audio file, which need not exist; text where it is a URL.
      label: "bonafide" (a real person), "spoof", or None where it is not known.
      content: the audio file's bytes, where they come from elsewhere and `path` only says from where.
      stamp: short text that changes when the file does, such as its size and time of modification; None where unknown.
        Of a clip in a tar or parquet shard it is the shard's.
      problem: why there is no clip to decode, where its source found that out.
      fallbacks: its ids in case that another trial has the same `utterance_id`, to be tried in this order; none for an
        id that a manifest states.
      max_bytes: the most that is read into memory from `path` where that is a URL.
    """

    utterance_id: str
    path: Path | str
    label: Label | None = None
    content: bytes | None = field(default=None, repr=False)
    stamp: str | None = field(default=None, compare=False)
    problem: str | None = field(default=None, compare=False, repr=False)
    fallbacks: tuple[str, ...] = field(default=(), compare=False, repr=False)
    max_bytes: int = field(default=MAX_CLIP_BYTES, compare=False, repr=False)
