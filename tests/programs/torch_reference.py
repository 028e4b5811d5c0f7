"""The oracle as a PyTorch reference: tests copy this file beside the weights, as `reference.py`."""

from __future__ import annotations

from tests.oracle.spectra_torch import SpectraAASIST3


def build(config: dict[str, object]) -> SpectraAASIST3:
    return SpectraAASIST3(config)
