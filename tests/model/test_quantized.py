"""Products of 8-bit integers: their errors, and what the precision `int8` does to the network."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.nn import initializers
from scipy.stats import spearmanr

import spectra_jax
from spectra_jax.checkpoints.load import abstract_inference_model
from spectra_jax.data.trial import Trial
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.quantized import QuantizedLinear, QuantizedWeight, quantize_kernel, quantize_rows
from tests.conftest import GOLDEN, golden_windows

DEV_CLIPS = Path(__file__).parents[2] / "examples" / "corpus" / "dev"


def layer_with(weight: np.ndarray, scale: np.ndarray) -> QuantizedLinear:
    """A layer without bias; weight (out, in), scale (out,)."""
    inputs, outputs = weight.shape[::-1]
    zeros = initializers.zeros
    layer = QuantizedLinear(inputs, outputs, kernel_init=zeros, bias_init=zeros, rngs=nnx.Rngs(0))
    layer.weight, layer.scale = QuantizedWeight(jnp.asarray(weight)), QuantizedWeight(jnp.asarray(scale))
    return layer


def test_rounding_errors_are_at_most_half_of_a_step() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 64), np.float32) * 10.0 ** rng.uniform(-6, 6, (50, 1)).astype(np.float32)
    half = 0.5 * (1 + 1e-4)
    rows, row_scale = (np.asarray(part) for part in quantize_rows(jnp.asarray(x)))
    assert rows.dtype == np.int8 and np.all(np.abs(rows).max(axis=1) == 127)
    assert np.all(np.abs(rows * row_scale - x) <= half * row_scale)
    weight, scale = quantize_kernel(x.T)
    assert weight.shape == x.shape and np.all(np.abs(weight).max(axis=1) == 127)
    assert np.all(np.abs(weight * scale[:, None] - x) <= half * scale[:, None])


@pytest.mark.parametrize("rows", [1, 7, 201])
def test_products_of_integers_are_exact(rows: int) -> None:
    """Sums below 2^24, which float32 holds exactly, of the extreme values too."""
    rng = np.random.default_rng(rows)
    x, weight = (rng.integers(-127, 128, shape).astype(np.int8) for shape in ((rows, 1024), (96, 1024)))
    x[:, 0], weight[0] = 127, -127
    x[0] = 127
    found = jax.jit(layer_with(weight, np.ones(96, np.float32)))(x.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(found), x.astype(np.int64) @ weight.T.astype(np.int64))


def test_rows_and_columns_of_zeros_are_zero() -> None:
    rows, scale = quantize_rows(jnp.zeros((2, 4)))
    assert not np.any(rows) and not np.any(scale)
    weight, scales = quantize_kernel(np.zeros((4, 3), np.float32))
    found = layer_with(weight, scales)(jnp.asarray([[0.0] * 4, [1.0, -2.0, 3.0, 4.0]]))
    np.testing.assert_array_equal(np.asarray(found), np.zeros((2, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_reaches_its_own_row_only(value: float) -> None:
    weight, scale = quantize_kernel(np.random.default_rng(0).standard_normal((4, 3), np.float32))
    found = np.asarray(layer_with(weight, scale)(jnp.asarray([[1.0, value, 2.0, 3.0], [1.0, 0.0, 2.0, 3.0]])))
    assert not np.isfinite(found[0]).any() and np.isfinite(found[1]).all()


def test_quantized_weights_are_not_among_the_parameters() -> None:
    _, params, rest = spectra_jax.split(spectra_jax.load("demo", "int8"))
    query = "encoder", "layers", "0", "attention", "query"
    for tree, names in ((params, {"bias"}), (rest, {"weight", "scale"})):
        for name in query:
            tree = tree[name]
        assert tree.keys() == names


def test_the_full_networks_weights_take_less_than_half_a_gigabyte() -> None:
    state = nnx.state(abstract_inference_model(SpectraConfig(), "int8"))
    leaves = jax.tree.leaves(state)
    assert sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) < 0.45e9
    assert max(leaf.size for leaf in leaves if leaf.dtype == np.float32) < 10e6


# Root mean square error over root mean square. Measured 2.7e-3 and 1.5e-2, and in bfloat16 2.6e-3 and 7.4e-3.
@pytest.mark.parametrize(("network", "most"), [("demo", 6e-3), (GOLDEN / "tiny", 3e-2)])
def test_the_encoders_error(network: str, most: float) -> None:
    x = golden_windows([{"seed": seed, "samples": 20000} for seed in (7, 8)])
    exact, found = (
        np.asarray(jax.jit(spectra_jax.load(network, precision).encoder)(x)) for precision in ("float32", "int8")
    )
    assert np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) < most


def test_scores_of_the_demo_are_near_those_of_float32() -> None:
    """Measured on all 440 clips of the corpus: mean 0.006, largest 0.14, rank correlation 0.99996."""
    trials = [Trial(path.stem, path) for path in sorted(DEV_CLIPS.glob("*.flac"))]
    exact, found = (
        np.array([result.score for result in spectra_jax.Scorer("demo", precision=precision).score_trials(trials)])
        for precision in ("float32", "int8")
    )
    assert 0 < np.abs(found - exact).mean() < 0.03
    assert spearmanr(found, exact).statistic > 0.99


@pytest.mark.filterwarnings("error")
def test_damaged_and_tiny_weights_give_no_warning() -> None:
    weight, scale = quantize_kernel(np.array([[np.nan, 1, 1e-40], [np.inf, 2, 0]], np.float32))
    assert not np.isfinite(scale[0]) and np.isfinite(scale[1:]).all()
    np.testing.assert_array_equal(weight[1], [64, 127])


def test_int8_cannot_be_certified() -> None:
    with pytest.raises(ValueError, match="certify takes float32, not int8: in a coarser type nearly every trial has"):
        spectra_jax.Scorer("demo", precision="int8", certify=True)
