"""What is found out about a recording while its samples pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio.errors import AudioError
from spectra_jax.audio.samples import describe_not_finite


class InspectedBlocks:
    """The blocks of a recording, which are hashed, counted and checked as they pass. Iterate over it once.

    Args:
      blocks: mono float32 samples.
      name: of the recording, for messages.

    Attributes:
      num_samples: of the blocks so far.
      sha256: of all samples, as little-endian float32; None before the last block was inspected.

    Raises:
      AudioError: after the last block: samples were NaN or infinite, or there were none; and what `blocks` raise.
    """

    def __init__(self, blocks: Iterable[NDArray[np.float32]], name: str):
        self.num_samples = 0
        self.sha256: str | None = None
        self._name = name
        self._passing = self._inspected(blocks)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self._passing

    def _inspected(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        digest = hashlib.sha256()
        num_broken, first = 0, ""
        for block in blocks:
            digest.update(np.ascontiguousarray(block, "<f4").data)
            if len(broken := np.flatnonzero(~np.isfinite(block))):
                first = first or f"sample {self.num_samples + broken[0]} ({block[broken[0]]})"
                num_broken += len(broken)
            self.num_samples += len(block)
            yield block
        if not self.num_samples:
            raise AudioError(f"{self._name}: holds no samples")
        self.sha256 = digest.hexdigest()
        if description := describe_not_finite(num_broken, self.num_samples, first):
            raise AudioError(description)
