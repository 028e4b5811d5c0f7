"""Thresholds on the score, below which a recording is labelled a spoof. None is applied unless it is stated.

    Threshold.of(-1.2)
    Threshold.of("published-code")

Two thresholds for the published checkpoint are in circulation. Nobody calibrated either: no error rate, costs or prior
are known for them. They are named here so that a decision can state what it rests on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from spectra_jax import hub
from spectra_jax.errors import InputError

_LARGEST = 1_000_000
"""Far beyond any score. Pictures show the threshold beside the scores, and cannot with the largest floats."""


@dataclass(frozen=True)
class Threshold:
    """A threshold on the score: a lower score is labelled `spoof`, any other `bonafide`.

    Attributes:
      value: on the bona fide logit.
      name: of a threshold in circulation; None for one that the caller chose.
      source: where it comes from, as a clause.
      model: for which it was published; None for one that the caller chose.

    Raises:
      InputError: a value that is not finite, or larger than scores can be.
    """

    value: float
    name: str | None = None
    source: str = "chosen by the caller"
    model: str | None = None

    def __post_init__(self) -> None:
        if not -_LARGEST <= self.value <= _LARGEST:
            raise InputError(f"threshold {self.value}: a number from -{_LARGEST:,} to {_LARGEST:,} is expected")

    @classmethod
    def of(cls, given: float | str | Threshold) -> Self | Threshold:
        """A threshold from its value, as a number or text, or from its name.

        Raises:
          InputError: neither a number nor a known name, or a number that is not finite or too large.
        """
        if isinstance(given, Threshold):
            return given
        if isinstance(given, str) and given in THRESHOLDS:
            return THRESHOLDS[given]
        try:
            value = float(given)
        except ValueError:
            raise InputError(f"threshold {given!r}: neither a number nor one of {', '.join(THRESHOLDS)}") from None
        return cls(value)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


THRESHOLDS = {
    str(threshold.name): threshold
    for threshold in (
        Threshold(-1.0625009, "published-code", f"in the code of {hub.PUBLISHED}; nobody calibrated it", hub.PUBLISHED),
        Threshold(
            -1.460938, "published-readme", f"in the README of {hub.PUBLISHED}; nobody calibrated it", hub.PUBLISHED
        ),
    )
}
"""The thresholds in circulation, by their names."""
