"""What is found out about a recording while its samples pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio.samples import describe_not_finite


class InspectedBlocks:
    """The blocks of a recording, and what all of its samples have in common once the last block was taken.

    Attributes:
      num_samples: of the blocks so far.
      not_finite: how many samples are NaN or infinite, of how many, and the first of them; None where none is.
      sha256: of all samples, mono, as little-endian float32; None before the last block was taken.
    """

    def __init__(self, blocks: Iterable[NDArray[np.float32]]):
        self._blocks = blocks
        self._digest = hashlib.sha256()
        self._num_not_finite = 0
        self._first = ""
        self.num_samples = 0
        self.sha256: str | None = None

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for block in self._blocks:
            self._digest.update(np.ascontiguousarray(block, "<f4").data)
            if len(found := np.flatnonzero(~np.isfinite(block))):
                if not self._num_not_finite:
                    self._first = f"sample {self.num_samples + found[0]} ({block[found[0]]})"
                self._num_not_finite += len(found)
            self.num_samples += len(block)
            yield block
        self.sha256 = self._digest.hexdigest()

    @property
    def not_finite(self) -> str | None:
        return describe_not_finite(self._num_not_finite, self.num_samples, self._first)
