"""The repository that the tests fetch, and functions that they share."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from spectra_jax import hub
from spectra_jax.errors import HubError

WEIGHTS = save({"weight": np.arange(4096, dtype=np.float32)})
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
NEWER = save({"weight": np.ones(8, dtype=np.float32)})
COMMIT = "0123456789abcdef0123456789abcdef01234567"
READER = "hf_reader"
# As models are published: the fetch must take two of its files.
MODEL = {
    "README.md": b"# A model\n",
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"\x80\x04a pickle, never to be fetched",
}


def refusal(name: str) -> str:
    """The message of `fetch_model` for a model that cannot be fetched: one line on what happened and what to do."""
    with pytest.raises(HubError) as raised:
        hub.fetch_model(name)
    text = str(raised.value)
    assert "\n" not in text and text.endswith(".") and ". " in text
    return text


def damage(path: Path) -> None:
    """Invert a byte of a file on disk, through all links to it."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.resolve().write_bytes(content)
