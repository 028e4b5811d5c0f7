"""What is found out about a recording while its samples pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio.samples import describe_not_finite
from spectra_jax.errors import AudioError


class InspectedBlocks:
    """The blocks of a recording, which are hashed, counted and checked as they pass. Iterate over it once.

    Args:
      blocks: mono float32 samples.
      name: of the recording, for messages.

    Attributes:
      num_samples: of the blocks so far.
      sha256: of all samples, as little-endian float32; None before the last block was inspected.

    Raises:
      AudioError: after the last block: there were no samples; and what `blocks` raise.
    """

    def __init__(self, blocks: Iterable[NDArray[np.float32]], name: str):
        self.num_samples = 0
        self.sha256: str | None = None
        self._name = name
        self._num_not_finite, self._first_not_finite = 0, ""
        self._passing = self._inspected(blocks)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self._passing

    @property
    def not_finite(self) -> str | None:
        """How many of the samples so far are NaN or infinite, and the first; None where none is."""
        return describe_not_finite(self._num_not_finite, self.num_samples, self._first_not_finite)

    def _inspected(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(np.ascontiguousarray(block, "<f4").data)
            if len(found := np.flatnonzero(~np.isfinite(block))):
                if not self._num_not_finite:
                    self._first_not_finite = f"sample {self.num_samples + found[0]} ({block[found[0]]})"
                self._num_not_finite += len(found)
            self.num_samples += len(block)
            yield block
        if not self.num_samples:
            raise AudioError(f"{self._name}: holds no samples")
        self.sha256 = digest.hexdigest()
