"""The arguments of a `Scorer`, to load it in this process or on another node."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from spectra_jax.data.trial import Trial
from spectra_jax.devices import local_devices
from spectra_jax.errors import InputError
from spectra_jax.inference import compilation_cache
from spectra_jax.inference.identity import score_identity
from spectra_jax.inference.results import Result
from spectra_jax.inference.scorer import Scorer
from spectra_jax.model.precision import Precision


def _ignore(_: str) -> None:
    """Drop messages about the compilation cache."""


@dataclass(frozen=True)
class ScorerOptions:
    """How clips are scored, as plain values that can be sent to another node.

    Attributes:
      source: of the weights; on a cluster, a name with the same meaning on every node.
      precision, batch_size, diagnostics, certify: see `spectra_jax.Scorer`.
      num_devices: how many of the local devices are used; None for all.
      use_cache: whether the compiled network is read from, and written to, the compilation cache.
    """

    source: str
    precision: str = "float32"
    batch_size: int | Literal["auto"] = 8
    num_devices: int | None = None
    diagnostics: bool = False
    certify: bool = False
    use_cache: bool = True

    def load(self, num_clips: int | None = None, report: Callable[[str], None] = _ignore) -> Scorer:
        """Construct a scorer and load its network.

        Args:
          num_clips: how many there are to score, where that is known: no larger batch is compiled for them.
          report: takes a message about the compilation cache.

        Raises:
          InputError: more devices than this machine has.
          ValueError: see `spectra_jax.Scorer`.
        """
        devices = local_devices()
        if self.num_devices is not None and self.num_devices > len(devices):
            raise InputError(
                f"--devices {self.num_devices}, but there are {len(devices)}: {', '.join(map(str, devices))}"
            )
        scorer = Scorer(
            self.source,
            precision=self.precision,
            batch_size=self.batch_size,
            devices=devices[: self.num_devices],
            diagnostics=self.diagnostics,
            certify=self.certify,
        )
        caching = compilation_cache.use(report, devices[0].platform) if self.use_cache else compilation_cache.disabled()
        with caching as cache:
            scorer.load(num_clips=num_clips, cache=cache)
        return scorer

    def score_trials(self, trials: Iterable[Trial], **options: Any) -> Generator[Result]:
        """Score trials in this process, with a scorer that is loaded for them."""
        return self.load().score_trials(trials, **options)

    def identity(self) -> dict[str, Any]:
        """The identity of the scorer, without loading it.

        Raises:
          InputError: the batch size is "auto", which only the devices of a node decide.
        """
        if self.batch_size == "auto":
            raise InputError('batch_size = "auto" depends on the devices: give a number')
        return score_identity(
            self.source,
            Precision.of(self.precision),
            self.batch_size,
            diagnostics=self.diagnostics,
            certify=self.certify,
        )
