"""Native checkpoints for the tests of this folder: their metadata, and comparison."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors import safe_open

from spectra_jax.checkpoints.checkpoint import Checkpoint
from tests.conftest import GOLDEN

TINY = GOLDEN / "tiny"


KERNEL = "encoder.positional_convolution.conv.kernel"


COUNT = "aasist.gat_s.norm.num_batches"


COMMIT = "0123456789abcdef0123456789abcdef01234567"


Tensors = dict[str, np.ndarray]


def metadata_of(directory: Path) -> dict[str, str]:
    with safe_open(directory / "model.safetensors", framework="np") as file:
        return file.metadata()


def loaded_weights(model: nnx.Module) -> dict[str, jax.Array]:
    _, state = nnx.split(model)
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def assert_same(found: Checkpoint | Tensors, expected: Checkpoint | Tensors) -> None:
    found, expected = dict(found), dict(expected)
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert (found[path].dtype, found[path].shape) == (array.dtype, array.shape), path
        np.testing.assert_array_equal(found[path], array, err_msg=path, strict=True)
