"""The published detectors: one encoder and bridge with three back-ends.

| detector | repository | back-end |
| --- | --- | --- |
| Spectra-AASIST3 | `lab260/Spectra-AASIST3` | `kan-aasist` |
| Spectra-AASIST | `lab260/Spectra-AASIST` | `aasist` |
| Spectra-0 | `lab260/spectra_0` | `ecapa-tdnn` |

Their repositories have an empty `config.json` or none, so that the back-end is found by the names of the weights. The
architectures are known: a `config.json` in another format in these repositories is not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spectra_jax.model.config import SpectraConfig


@dataclass(frozen=True)
class PublishedDetector:
    """A published detector.

    Attributes:
      name: in messages.
      repository: on the Hub.
      back_end: see `SpectraConfig.back_end`.
    """

    name: str
    repository: str
    back_end: str

    @property
    def config(self) -> SpectraConfig:
        """Its architecture."""
        return SpectraConfig(back_end=self.back_end)


FAMILY: dict[str, PublishedDetector] = {
    detector.back_end: detector
    for detector in (
        PublishedDetector("Spectra-AASIST3", "lab260/Spectra-AASIST3", "kan-aasist"),
        PublishedDetector("Spectra-AASIST", "lab260/Spectra-AASIST", "aasist"),
        PublishedDetector("Spectra-0", "lab260/spectra_0", "ecapa-tdnn"),
    )
}
"""The published detectors by their back-ends."""


def find_detector(config: SpectraConfig) -> PublishedDetector | None:
    """The published detector that a configuration describes, of any size; None for another back-end or head."""
    return FAMILY.get(config.back_end) if config.head == "logits" else None


def is_published(repository: str) -> bool:
    """Whether a repository on the Hub is that of a published detector."""
    return any(detector.repository == repository for detector in FAMILY.values())


def find_back_end(names: Iterable[str]) -> str | None:
    """The back-end of a network whose weights have these names, in the native format or in that of PyTorch."""
    names = [name.removeprefix("module.") for name in names]
    if any(name.startswith("ecapa_tdnn.") for name in names):
        return "ecapa-tdnn"
    if any(name.startswith("pool_linear.") for name in names):
        return "pool+linear"
    if any(name.startswith("aasist.") for name in names):
        return "kan-aasist" if any(".spline_" in name for name in names) else "aasist"
    return None


def describe_mismatch(names: Iterable[str], config: SpectraConfig) -> str | None:
    """What weights with these names are, if the configuration has another back-end; otherwise None."""
    found = find_back_end(names)
    if found in (None, config.back_end):
        return None
    return (
        f"this is a {_describe(found)}, and its configuration is that of a {_describe(config.back_end)}: "
        f'set "back_end": "{found}" in its config.json'
    )


def _describe(back_end: str | None) -> str:
    detector = FAMILY.get(str(back_end))
    return f"{detector.name} checkpoint" if detector else f"checkpoint with the back-end {back_end}"
