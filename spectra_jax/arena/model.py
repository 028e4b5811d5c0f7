"""The Arena's model interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Shaped

from spectra_jax.hub import PUBLISHED

if TYPE_CHECKING:
    from spectra_jax.inference.scorer import Scorer

try:
    # The tool, where it is installed, may require its base class.
    from speech_spoof_bench.model import AntiSpoofingModel as _Base
except ImportError:
    _Base = object


class SpectraAASIST3(_Base):  # type: ignore[misc,unused-ignore]
    """The Arena's model interface: a constructor without arguments, `load`, `score_batch`, `unload`.

    It is configured by environment variables, or by the class attributes of a subclass; variables take precedence:

    | attribute | variable | meaning |
    | --- | --- | --- |
    | model | SPECTRA_JAX_MODEL | what `spectra_jax.load` takes |
    | precision | SPECTRA_JAX_PRECISION | float32, tf32, bfloat16, float16, int8 or float64 |
    | batch_size | SPECTRA_JAX_BATCH_SIZE | clips of one batch |
    | certify | SPECTRA_JAX_CERTIFY | 1: near ties are scored again in float64 |

    Attributes:
      name: of the system in the tool's results. With another model than the published one it is that model's name,
        unless a subclass has a name of its own.

    Raises:
      ValueError: a variable has an invalid value.
    """

    name: str = "Spectra-AASIST3 (spectra-jax)"
    expected_sample_rate: ClassVar[int] = 16_000
    batch_size: int = 8
    model: str = PUBLISHED
    precision: str = "float32"
    certify: bool = False

    def __init__(self) -> None:
        self.model = os.environ.get("SPECTRA_JAX_MODEL") or self.model
        self.precision = os.environ.get("SPECTRA_JAX_PRECISION") or self.precision
        self.batch_size = _read_integer("SPECTRA_JAX_BATCH_SIZE", self.batch_size, minimum=1)
        self.certify = bool(_read_integer("SPECTRA_JAX_CERTIFY", int(self.certify), minimum=0))
        if self.model != PUBLISHED and type(self).name == SpectraAASIST3.name:
            self.name = f"{_short_name(self.model)} (spectra-jax)"
        self._scorer: Scorer | None = None

    def load(self, *_: Any, **__: Any) -> None:
        """Read the weights and compile the network; further calls do nothing."""
        self._loaded().load()

    def score_batch(self, audios: Sequence[Shaped[np.ndarray, ...]], srs: Sequence[int]) -> list[float]:
        """The scores of any number of clips, higher = more bona fide; `batch_size` clips are scored at a time.

        Args:
          audios: (samples,) or (samples, channels) each.
          srs: their sample rates in Hz.

        Raises:
          AudioError: a clip cannot be scored. The message states its index in the batch; the tool counts it as skipped.
        """
        return self._loaded().score_batch(audios, srs)

    def unload(self) -> None:
        """Release the weights."""
        self._scorer = None

    def _loaded(self) -> Scorer:
        if self._scorer is None:
            from spectra_jax.inference.scorer import Scorer

            self._scorer = Scorer(
                self.model, precision=self.precision, batch_size=self.batch_size, certify=self.certify
            )
        return self._scorer


def _short_name(model: str) -> str:
    """A model's name for others: a local one without the folders that it lies in."""
    path = Path(model)
    return path.name if path.exists() else model


def _read_integer(variable: str, default: int, *, minimum: int) -> int:
    """The value of an environment variable. Raises ValueError: not an integer, or below `minimum`."""
    text = os.environ.get(variable) or str(default)
    if not (text.isascii() and text.isdecimal() and int(text) >= minimum):
        raise ValueError(f"{variable}={text!r}, but it must be an integer of at least {minimum}")
    return int(text)
