"""The length, the digest and the non-finite samples of a recording that is read block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio.samples import describe_not_finite
from spectra_jax.errors import AudioError


class InspectedBlocks:
    """Hands on the blocks of a recording, and counts, hashes and checks their samples. Iterate over it once.

    Args:
      blocks: mono float32 samples.
      name: of the recording, in messages.

    Attributes:
      num_samples: of the blocks so far.
      sha256: of all samples, as little-endian float32; None until the iteration ends.

    Raises:
      AudioError: from the iteration: there were no samples; and what `blocks` raise.
    """

    def __init__(self, blocks: Iterable[NDArray[np.float32]], name: str):
        self.num_samples = 0
        self.sha256: str | None = None
        self._name = name
        self._num_not_finite, self._first_not_finite = 0, ""
        self._inspected = self._inspect(blocks)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self._inspected

    @property
    def not_finite(self) -> str | None:
        """How many of the samples so far are NaN or infinite, and the first of them, as a sentence; None if none is."""
        return describe_not_finite(self._num_not_finite, self.num_samples, self._first_not_finite)

    def _inspect(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(np.ascontiguousarray(block, "<f4").data)
            if len(indices := np.flatnonzero(~np.isfinite(block))):
                if not self._num_not_finite:
                    self._first_not_finite = f"sample {self.num_samples + indices[0]} ({block[indices[0]]})"
                self._num_not_finite += len(indices)
            self.num_samples += len(block)
            yield block
        if not self.num_samples:
            raise AudioError(f"{self._name}: holds no samples")
        self.sha256 = digest.hexdigest()
