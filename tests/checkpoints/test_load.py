"""Loading a checkpoint into a network: every weight, in the dtype of the precision."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spectra_jax.checkpoints.checkpoint import Checkpoint, weight_shapes
from spectra_jax.checkpoints.load import load_model
from spectra_jax.checkpoints.resolve import load
from spectra_jax.model.config import SpectraConfig
from tests.checkpoints.native_files import (
    loaded_weights,
)


def test_the_number_of_weights_is_the_published_one() -> None:
    shapes = weight_shapes(SpectraConfig())
    # The published number of parameters, without the magnitudes of the weight norm.
    statistics = ("mean", "var", "num_batches")
    trained = sum(np.prod(leaf.shape) for path, leaf in shapes.items() if not path.endswith(statistics))
    assert trained == 318_948_883 - 128


def test_every_weight_is_loaded(tiny_checkpoint: Checkpoint, native: Path) -> None:
    expected = dict(tiny_checkpoint)
    for model in (load_model(tiny_checkpoint), load(native)):
        leaves = loaded_weights(model)
        assert leaves.keys() == expected.keys() == weight_shapes(tiny_checkpoint.config).keys()
        for path, leaf in leaves.items():
            assert leaf.dtype == (jnp.int32 if path.endswith("num_batches") else jnp.float32), path
            np.testing.assert_array_equal(np.asarray(leaf), expected[path].astype(leaf.dtype), err_msg=path)


def test_float64_weights_are_those_of_the_file(tiny_checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="x64"):
        load_model(tiny_checkpoint, "float64")
    with jax.enable_x64(True):
        leaves = loaded_weights(load_model(tiny_checkpoint, "float64"))
    for path, array in tiny_checkpoint:
        assert leaves[path].dtype == (jnp.int32 if path.endswith("num_batches") else jnp.float64), path
        np.testing.assert_array_equal(np.asarray(leaves[path]), array, err_msg=path)


def test_in_bfloat16_the_weights_of_the_encoders_products_are_bfloat16(tiny_checkpoint: Checkpoint) -> None:
    narrow = {
        path
        for path, leaf in loaded_weights(load_model(tiny_checkpoint, "bfloat16")).items()
        if leaf.dtype == "bfloat16"
    }
    products = {path for path in weight_shapes(tiny_checkpoint.config) if re.match(r"encoder\..*\.kernel$", path)}
    # A CPU computes the positional convolution in float32.
    assert narrow == products - {"encoder.positional_convolution.conv.kernel"}
