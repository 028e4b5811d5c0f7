"""The closed form of the splines against their recursive definition, and the KAN layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.interpolate import BSpline

from spectra_jax.model import kan
from spectra_jax.model.config import KANConfig, SpectraConfig
from spectra_jax.model.kan import KANLinear, bspline_basis, knots
from spectra_jax.model.precision import Precision

PUBLISHED = SpectraConfig().kan

# Grids whose spacing is a power of two are exact in float32; the others had to be rounded.
grids = st.builds(
    KANConfig,
    grid_size=st.sampled_from([1, 2, 3, 5, 7, 8, 16, 32]),
    spline_order=st.integers(1, 6),
    grid_range=st.sampled_from([(-1.0, 1.0), (0.0, 2.0), (-0.3, 0.9), (-2.0, 2.0)]),
)


def cox_de_boor(x: np.ndarray, config: KANConfig) -> np.ndarray:
    """The recursion (...,) -> (..., bases) that defines B-splines, in float64 on the knots of checkpoints."""
    t = knots(config).astype(np.float64)
    x = x[..., None]
    basis = ((x >= t[:-1]) & (x < t[1:])).astype(np.float64)
    for k in range(1, config.spline_order + 1):
        left = (x - t[: -k - 1]) / (t[k:-1] - t[: -k - 1])
        right = (t[k + 1 :] - x) / (t[k + 1 :] - t[1:-k])
        basis = left * basis[..., :-1] + right * basis[..., 1:]
    return basis


def points(config: KANConfig) -> np.ndarray:
    """Points inside, outside and exactly on the knots."""
    t = knots(config).astype(np.float64)
    width = t[-1] - t[0]
    return np.concatenate([t, np.linspace(t[0] - width / 4, t[-1] + width / 4, 1001), [1e6, -1e6]])


@settings(deadline=None, max_examples=10)
@given(config=grids)
def test_basis_is_the_recursion(config: KANConfig) -> None:
    x = points(config)
    with jax.enable_x64(True):
        found = np.asarray(bspline_basis(jnp.asarray(x), config))
    # A basis of degree 1 has corners, and one of degree 0 steps: at the knots rounding decides the side, but from
    # degree 1 on the curve is continuous, so it does not matter.
    np.testing.assert_allclose(found, cox_de_boor(x, config), rtol=0, atol=1e-12)


def test_float32_basis_is_as_good_as_float32_allows() -> None:
    x = points(PUBLISHED).astype(np.float32)
    found = np.asarray(bspline_basis(jnp.asarray(x), PUBLISHED), np.float64)
    # A few roundings of the largest truncated power, 2.5**4 / 24 = 1.6, at 6e-8 each.
    np.testing.assert_allclose(found, cox_de_boor(x.astype(np.float64), PUBLISHED), rtol=0, atol=1e-6)


def test_basis_against_scipy() -> None:
    t = knots(PUBLISHED).astype(np.float64)
    x = np.linspace(-1, 1, 501)[:-1]
    design = BSpline.design_matrix(x, t, PUBLISHED.spline_order).toarray()
    with jax.enable_x64(True):
        np.testing.assert_allclose(bspline_basis(jnp.asarray(x), PUBLISHED), design, rtol=0, atol=1e-13)


def test_knots_are_those_of_the_published_file() -> None:
    assert knots(PUBLISHED).dtype == np.float32
    np.testing.assert_array_equal(knots(PUBLISHED), np.arange(25) / 8 - 1.5)


def test_outside_the_grid_the_splines_are_zero() -> None:
    layer = KANLinear(3, 2, PUBLISHED, precision=Precision.of("float32"), rngs=nnx.Rngs(0))
    x = jnp.array([[1.5, -1.6, 100.0]])
    base = jnp.where(x >= 0, x, 0.25 * x) @ layer.base_weight[...]
    np.testing.assert_allclose(layer(x), base, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, kan.CHUNK_ROWS, kan.CHUNK_ROWS + 1, 3 * kan.CHUNK_ROWS - 7])
def test_chunks_do_not_change_the_output(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with jax.enable_x64(True):
        layer = KANLinear(5, 4, PUBLISHED, precision=Precision.of("float64"), rngs=nnx.Rngs(0))
        x = jax.random.normal(jax.random.key(1), (rows, 5), jnp.float64)
        chunked = np.asarray(layer(x))
        monkeypatch.setattr(kan, "CHUNK_ROWS", rows)
        np.testing.assert_allclose(chunked, layer(x), rtol=0, atol=1e-12)


def test_memory_is_bounded_by_the_chunk() -> None:
    """For any number of rows, the compiled program stores the bases of one chunk at a time."""
    layer = KANLinear(64, 64, PUBLISHED, precision=Precision.of("float32"), rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)
    rows = 64 * kan.CHUNK_ROWS
    lowered = jax.jit(lambda p, x: nnx.merge(graph, p)(x)).lower(params, jax.ShapeDtypeStruct((rows, 64), jnp.float32))
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    chunk = kan.CHUNK_ROWS * 64 * PUBLISHED.num_bases * 4
    assert memory.temp_size_in_bytes < 4 * chunk + 2 * rows * 64 * 4  # some chunks, and copies of input and output


def test_gradients_are_those_of_the_function() -> None:
    with jax.enable_x64(True):
        layer = KANLinear(4, 3, PUBLISHED, precision=Precision.of("float64"), rngs=nnx.Rngs(0))
        graph, params = nnx.split(layer)
        x = jax.random.uniform(jax.random.key(2), (7, 4), jnp.float64, -1.4, 1.4)
        check_grads(jax.jit(lambda p, x: nnx.merge(graph, p)(x)), (params, x), order=1, modes=["rev"])


def test_initial_splines_pass_near_zero_at_the_knots() -> None:
    """The least-norm fit of noise from U(-0.05, 0.05) / grid_size, as the reference starts its splines."""
    layer = KANLinear(6, 5, PUBLISHED, precision=Precision.of("float32"), rngs=nnx.Rngs(0))
    inside = jnp.asarray(knots(PUBLISHED)[4:-4])
    curves = np.einsum("pb,ibo->pio", bspline_basis(inside, PUBLISHED), layer.spline_weight[...])
    bound = 0.05 / PUBLISHED.grid_size
    assert np.max(np.abs(curves)) <= bound * 1.001
    assert np.std(curves) == pytest.approx(bound / np.sqrt(3), rel=0.15)  # uniform, 510 draws
    # base_weight and spline_scaler: U(-1/sqrt(in), 1/sqrt(in))
    for leaf in (layer.base_weight, layer.spline_scaler):
        assert leaf is not None
        assert 0.25 < np.max(np.abs(leaf[...])) <= 6**-0.5
