"""Fixtures of the tests of conversion."""

from __future__ import annotations

from types import ModuleType

import pytest
from safetensors.numpy import load_file

from tests.convert.pytorch_files import (
    TINY,
    Tensors,
)


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """`tests.oracle.spectra_torch`, where PyTorch is installed."""
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason="needs the extra `parity` (torch, transformers)")
    from tests.oracle import spectra_torch

    return spectra_torch


@pytest.fixture
def tiny() -> Tensors:
    """The tensors of the tiny PyTorch file, a new copy for each test."""
    return load_file(TINY / "model.safetensors")
