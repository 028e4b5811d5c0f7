"""The Speech Anti-Spoofing Arena: its model interface, its datasets as input, its result files, its reported figures.

    speech-spoof-bench run --model-module spectra_jax.arena:SpectraAASIST3 ...

Source: the Arena's tool, speech_spoof_bench 0.4 (github.com/lab260ru), of which nothing needs to be installed here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from spectra_jax.hub import PUBLISHED

if TYPE_CHECKING:
    from spectra_jax.inference.scorer import Scorer

try:
    # The real base class where the tool is installed, since it may ask for it.
    from speech_spoof_bench.model import AntiSpoofingModel as _Base
except ImportError:
    _Base = object


class SpectraAASIST3(_Base):  # type: ignore[misc,unused-ignore]
    """The Arena's model interface: built without arguments, `load`, `score_batch`, `unload`.

    A subclass sets the class attributes; the environment comes before them:

    | attribute | variable | means |
    | --- | --- | --- |
    | model | SPECTRA_JAX_MODEL | what `spectra_jax.load` takes |
    | precision | SPECTRA_JAX_PRECISION | float32, tf32, bfloat16 or float64 |
    | batch_size | SPECTRA_JAX_BATCH_SIZE | clips that the harness hands over at once |
    | certify | SPECTRA_JAX_CERTIFY | 1: near ties are scored again in float64 |

    Raises:
      ValueError: a variable that cannot be; it is named.
    """

    name: ClassVar[str] = "Spectra-AASIST3 (spectra-jax)"
    expected_sample_rate: ClassVar[int] = 16_000
    batch_size: int = 8
    model: str = PUBLISHED
    precision: str = "float32"
    certify: bool = False

    def __init__(self) -> None:
        self.model = os.environ.get("SPECTRA_JAX_MODEL") or self.model
        self.precision = os.environ.get("SPECTRA_JAX_PRECISION") or self.precision
        self.batch_size = _whole("SPECTRA_JAX_BATCH_SIZE", self.batch_size, least=1)
        self.certify = bool(_whole("SPECTRA_JAX_CERTIFY", int(self.certify), least=0))
        self._scorer: Scorer | None = None

    def load(self, *_: Any, **__: Any) -> None:
        """Read the weights and compile; further calls do nothing."""
        self._loaded().load()

    def score_batch(self, audios: Sequence[np.ndarray], srs: Sequence[int]) -> list[float]:
        """Scores of any number of clips, higher = more bona fide; `batch_size` of them at a time.

        Padding never changes a score beyond rounding.

        Raises:
          AudioError: a clip that cannot be scored, with its place in the batch; the harness counts it as skipped.
        """
        return self._loaded().score_batch(audios, srs)

    def unload(self) -> None:
        """Let go of the weights."""
        self._scorer = None

    def _loaded(self) -> Scorer:
        if self._scorer is None:
            from spectra_jax.inference.scorer import Scorer

            self._scorer = Scorer(
                self.model, precision=self.precision, batch_size=self.batch_size, certify=self.certify
            )
        return self._scorer


def _whole(variable: str, otherwise: int, *, least: int) -> int:
    text = os.environ.get(variable) or str(otherwise)
    if not (text.isascii() and text.isdecimal() and int(text) >= least):
        raise ValueError(f"{variable}={text!r}, but it must be a whole number of at least {least}")
    return int(text)
