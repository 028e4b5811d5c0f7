"""Kolmogorov-Arnold layers on B-splines, evaluated in closed form.

Source of the layer: Liu et al., "KAN: Kolmogorov-Arnold Networks" (2024). Source of the closed form: on uniform knots
every basis function is a shifted copy of one cardinal B-spline, a sum of truncated powers (Schoenberg, 1946).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.nn import initializers

from spectra_jax.model.config import KANConfig
from spectra_jax.model.layers import initial, uniform_fan_in, worked_out
from spectra_jax.model.precision import Precision

# Rows whose spline bases are in memory at one time. 1,024 rows of 64 features by 20 bases are 5 MiB in float32: less
# than a CPU's last-level cache, and enough work to fill a GPU's matmul.
CHUNK_ROWS = 1024


def knots(config: KANConfig) -> np.ndarray:
    """The knots (grid_size + 2 spline_order + 1,) in float32, rounded exactly as checkpoints hold them in `grid`."""
    low, high = config.grid_range
    steps = np.arange(-config.spline_order, config.grid_size + config.spline_order + 1, dtype=np.float32)
    return steps * np.float32((high - low) / config.grid_size) + np.float32(low)


def cardinal_bspline(x: jax.Array, degree: int) -> jax.Array:
    """The B-spline of `degree` on the knots -(degree+1)/2, ..., (degree+1)/2 at `x`, elementwise.

    Only the half of the truncated powers that is non-zero left of the centre is summed, at -|x|: the curve is
    symmetric, and the other half would only add cancellation.
    """
    distance = jnp.abs(x)
    if degree == 0:
        return ((x >= -0.5) & (x < 0.5)).astype(x.dtype)
    total = jnp.zeros_like(x)
    for i in range(degree // 2 + 1):
        power = jnp.maximum((degree + 1) / 2 - i - distance, 0) ** degree
        total = total + (-1) ** i * math.comb(degree + 1, i) * power
    return total / math.factorial(degree)


def bspline_basis(x: jax.Array, config: KANConfig) -> jax.Array:
    """All B-spline basis functions at `x`, (...,) -> (..., num_bases). Zero outside the extended grid.

    Checkpoints hold knots in float32. Where those are exactly evenly spaced, as in the published network, the closed
    form is exact. Where the spacing had to be rounded (5 intervals on [-1, 1], say), float64 results would tell the
    rounded knots from even ones, so there the recursion runs on the knots as they are.
    """
    points = knots(config).astype(np.float64)
    spacing = np.diff(points)
    if np.all(spacing == spacing[0]):
        return _bspline_basis_even((x - float(points[0])) / float(spacing[0]), config.num_bases, config.spline_order)
    return _bspline_basis_uneven(x, points, config.spline_order)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _bspline_basis_even(x: jax.Array, num_bases: int, degree: int) -> jax.Array:
    """The bases of `degree` on the knots 0, 1, ..., num_bases + degree, (...,) -> (..., num_bases)."""
    centres = np.arange(num_bases) + (degree + 1) / 2
    return cardinal_bspline(x[..., None] - centres.astype(x.dtype), degree)


@_bspline_basis_even.defjvp
def _bspline_basis_even_jvp(
    num_bases: int, degree: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The slope of a basis is the difference of two neighbours of one degree less: half the work of following every
    truncated power, and nothing of them to keep."""
    (x,), (change,) = primals, tangents
    lower = _bspline_basis_even(x, num_bases + 1, degree - 1)
    return _bspline_basis_even(x, num_bases, degree), (lower[..., :-1] - lower[..., 1:]) * change[..., None]


def _bspline_basis_uneven(x: jax.Array, points: np.ndarray, degree: int) -> jax.Array:
    """Cox-de Boor recursion on any increasing knots."""
    points = points.astype(x.dtype)
    x = x[..., None]
    basis = ((x >= points[:-1]) & (x < points[1:])).astype(x.dtype)
    for k in range(1, degree + 1):
        rising = (x - points[: -k - 1]) / (points[k:-1] - points[: -k - 1])
        falling = (points[k + 1 :] - x) / (points[k + 1 :] - points[1:-k])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return basis


class KANLinear(nnx.Module):
    """`y_o = sum_i base_weight[i,o] PReLU(x_i) + sum_ib spline_scaler[i,o] spline_weight[i,b,o] B_b(x_i)`."""

    def __init__(
        self, in_features: int, out_features: int, config: KANConfig, *, precision: Precision, rngs: nnx.Rngs | None
    ):
        dtype = precision.dtype
        init = uniform_fan_in(in_features)
        fitted = functools.partial(_fitted_noise, config=config)
        self.base_weight = nnx.Param(initial(rngs, init, (in_features, out_features), dtype))
        self.spline_weight = nnx.Param(initial(rngs, fitted, (in_features, config.num_bases, out_features), dtype))
        scaler = initial(rngs, init, (in_features, out_features), dtype)
        self.spline_scaler: nnx.Param[jax.Array] | None = nnx.Param(scaler)
        self.slope = nnx.Param(initial(rngs, initializers.constant(0.25), (1,), dtype))
        self.config = config
        self.precision = precision

    def fold(self) -> None:
        """Scale the spline weights once: see `spectra_jax.model.spectra.folded`."""
        assert self.spline_scaler is not None
        values = self.spline_weight.get_value(), self.spline_scaler.get_value()
        # A variable of its own: another layer may share the old one.
        self.spline_weight = nnx.Param(worked_out(lambda weight, scaler: weight * scaler[:, None, :], *values))
        self.spline_scaler = None

    def __call__(self, x: jax.Array, then: Callable[[jax.Array], jax.Array] | None = None) -> jax.Array:
        """(..., in) -> (..., out), or what `then` makes of that along the last axis, a chunk of rows at a time."""
        weight = self.spline_weight[...]
        if self.spline_scaler is not None:
            weight = weight * self.spline_scaler[...][:, None, :]
        # (in, bases, out) -> (in * bases, out): one matrix product over all bases of all features
        weight = weight.reshape(-1, weight.shape[-1])
        base_weight, slope = self.base_weight[...], self.slope[...]

        # A backward pass computes the bases again: to keep them is memory, and on a CPU takes longer.
        @jax.checkpoint
        def layer(rows: jax.Array) -> jax.Array:
            # PReLU, so written that a CPU's compiler does not unroll whole arrays of it.
            base = self.precision.dot(jnp.maximum(rows, 0) + slope * jnp.minimum(rows, 0), base_weight)
            basis = bspline_basis(rows, self.config)
            y = base + self.precision.dot(basis.reshape(*rows.shape[:-1], -1), weight)
            return y if then is None else then(y)

        num_rows = math.prod(x.shape[:-1])
        if num_rows <= CHUNK_ROWS:
            return layer(x)
        rows = x.reshape(num_rows, x.shape[-1])
        y = lax.map(layer, rows, batch_size=CHUNK_ROWS)
        return y.reshape(*x.shape[:-1], y.shape[-1])


def _fitted_noise(key: jax.Array, shape: tuple[int, ...], dtype: Any, *, config: KANConfig) -> jax.Array:
    """Spline weights (in, bases, out) whose curves pass through small noise at the knots inside the grid.

    The least-norm solution for noise from U(-0.05, 0.05) / grid_size, which is how the reference starts its splines.
    """
    in_features, _, out_features = shape
    noise_shape = (in_features, config.grid_size + 1, out_features)
    noise = jax.random.uniform(key, noise_shape, dtype, -0.05, 0.05) / config.grid_size
    return jnp.einsum("bp,ipo->ibo", _fit(config).astype(dtype), noise, precision=lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=8)
def _fit(config: KANConfig) -> np.ndarray:
    """The matrix (bases, points) from values at the knots inside the grid to spline coefficients."""
    inside = knots(config)[config.spline_order : -config.spline_order]
    with jax.ensure_compile_time_eval():
        basis = np.asarray(bspline_basis(jnp.asarray(inside), config), np.float64)
    return np.linalg.pinv(basis)
