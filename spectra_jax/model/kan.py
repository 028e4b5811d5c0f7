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
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Float, Float32

from spectra_jax.model.config import KANConfig
from spectra_jax.model.parameters import initial_value, uniform_fan_in
from spectra_jax.model.platform import platform_dependent
from spectra_jax.model.precision import Precision
from spectra_jax.model.symbolic import is_symbolic

# Rows of which the spline bases are in memory at the same time. 1,024 rows of 64 features by 20 bases are 5 MiB in
# float32: less than the last-level cache of a CPU.
CHUNK_ROWS = 1024
# On a GPU or a TPU, where each chunk costs the start of several programs: 335 MB, and four times as much where the four
# branches run together.
DEVICE_CHUNK_ROWS = 65536
# The same where the number of rows is symbolic. The last chunk is padded, so that a larger one costs more for one clip.
SYMBOLIC_CHUNK_ROWS = 256


def knots(config: KANConfig) -> Float32[np.ndarray, " knots"]:
    """The knots (grid_size + 2 spline_order + 1,) in float32, rounded exactly as in the `grid` of checkpoints."""
    low, high = config.grid_range
    steps = np.arange(-config.spline_order, config.grid_size + config.spline_order + 1, dtype=np.float32)
    return steps * np.float32((high - low) / config.grid_size) + np.float32(low)


def cardinal_bspline(x: Float[Array, "*shape"], degree: int) -> Float[Array, "*shape"]:
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


def bspline_basis(x: Float[Array, "*shape"], config: KANConfig) -> Float[Array, "*shape bases"]:
    """All B-spline basis functions at `x`. They are zero outside the extended grid.

    Checkpoints store the knots in float32. If these are exactly evenly spaced, as in the published network, the closed
    form is exact. If the spacing was rounded (5 intervals on [-1, 1], for example), even and rounded knots give
    different float64 results, so the recursion runs on the knots as they are stored.
    """
    points = knots(config).astype(np.float64)
    spacing = np.diff(points)
    if np.all(spacing == spacing[0]):
        return _bspline_basis_even((x - float(points[0])) / float(spacing[0]), config.num_bases, config.spline_order)
    return _bspline_basis_uneven(x, points, config.spline_order)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _bspline_basis_even(x: Array, num_bases: int, degree: int) -> Array:
    """The bases of `degree` on the knots 0, 1, ..., num_bases + degree, (...,) -> (..., num_bases)."""
    centres = np.arange(num_bases) + (degree + 1) / 2
    return cardinal_bspline(x[..., None] - centres.astype(x.dtype), degree)


@_bspline_basis_even.defjvp
def _bspline_basis_even_jvp(
    num_bases: int, degree: int, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    """The derivative of a basis is the difference of two neighbours of one degree less: half the work of
    differentiating every truncated power, and no intermediate to store."""
    (x,), (tangent,) = primals, tangents
    lower = _bspline_basis_even(x, num_bases + 1, degree - 1)
    return _bspline_basis_even(x, num_bases, degree), (lower[..., :-1] - lower[..., 1:]) * tangent[..., None]


def _bspline_basis_uneven(x: Array, points: np.ndarray, degree: int) -> Array:
    """The Cox-de Boor recursion, for any increasing knots."""
    points = points.astype(x.dtype)
    x = x[..., None]
    basis = ((x >= points[:-1]) & (x < points[1:])).astype(x.dtype)
    for k in range(1, degree + 1):
        rising = (x - points[: -k - 1]) / (points[k:-1] - points[: -k - 1])
        falling = (points[k + 1 :] - x) / (points[k + 1 :] - points[1:-k])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return basis


class KANLinear(nnx.Module):
    """`y_o = sum_i base_weight[i,o] PReLU(x_i) + sum_ib spline_scaler[i,o] spline_weight[i,b,o] B_b(x_i)`.

    After `spectra_jax.model.fold.fold_for_inference`, `spline_scaler` is None and `spline_weight` contains it.
    """

    def __init__(
        self, in_features: int, out_features: int, config: KANConfig, *, precision: Precision, rngs: nnx.Rngs | None
    ):
        dtype = precision.dtype
        init = uniform_fan_in(in_features)
        small_noise = functools.partial(_small_noise_splines, config=config)
        self.base_weight = nnx.Param(initial_value(rngs, init, (in_features, out_features), dtype))
        self.spline_weight = nnx.Param(
            initial_value(rngs, small_noise, (in_features, config.num_bases, out_features), dtype)
        )
        scaler = initial_value(rngs, init, (in_features, out_features), dtype)
        self.spline_scaler: nnx.Param[Array] | None = nnx.Param(scaler)
        self.slope = nnx.Param(initial_value(rngs, initializers.constant(0.25), (1,), dtype))
        self.config = config
        self.precision = precision

    def __call__(
        self, x: Float[Array, "*rows inputs"], then: Callable[[Array], Array] | None = None
    ) -> Float[Array, "*rows outputs"]:
        """The layer's output, computed for `CHUNK_ROWS` rows at a time, outside CPUs for `DEVICE_CHUNK_ROWS`.

        Args:
          x: any number of leading axes.
          then: a function of the output that acts along its last axis. It is applied to each chunk, so that the
            output itself is never in memory as one array.
        """
        weight = self.spline_weight[...]
        if self.spline_scaler is not None:
            weight = weight * self.spline_scaler[...][:, None, :]
        # (in, bases, out) -> (in * bases, out): one matrix product over all bases of all features
        weight = weight.reshape(-1, weight.shape[-1])
        base_weight, slope = self.base_weight[...], self.slope[...]

        # A backward pass computes the bases again: storing them takes memory, and on a CPU also more time.
        @jax.checkpoint
        def layer(rows: Array) -> Array:
            # PReLU, written so that the CPU compiler does not unroll complete arrays of it.
            base = self.precision.dot(jnp.maximum(rows, 0) + slope * jnp.minimum(rows, 0), base_weight)
            basis = bspline_basis(rows, self.config)
            y = base + self.precision.dot(basis.reshape(*rows.shape[:-1], -1), weight)
            return y if then is None else then(y)

        num_rows = math.prod(x.shape[:-1])
        if is_symbolic(num_rows):
            y = _map_symbolic_rows(layer, x.reshape(num_rows, x.shape[-1]))
        elif num_rows <= CHUNK_ROWS:
            return layer(x)
        else:
            rows = x.reshape(num_rows, x.shape[-1])
            on_cpu = functools.partial(_map_rows, layer, chunk=CHUNK_ROWS)
            elsewhere = functools.partial(_map_rows, layer, chunk=DEVICE_CHUNK_ROWS)
            y = platform_dependent(rows, cpu=on_cpu, default=elsewhere)
        return y.reshape(*x.shape[:-1], y.shape[-1])


def _map_rows(layer: Callable[[Array], Array], rows: Array, chunk: int) -> Array:
    """`layer(rows)` for `chunk` rows at a time."""
    mapped: Array = layer(rows) if rows.shape[0] <= chunk else lax.map(layer, rows, batch_size=chunk)
    return mapped


def _map_symbolic_rows(layer: Callable[[Array], Array], rows: Array) -> Array:
    """`layer(rows)` for `SYMBOLIC_CHUNK_ROWS` rows at a time, where their number is not known while tracing.

    The last chunk is padded, so that one body is compiled for all sizes.
    """
    num_rows, num_features = rows.shape
    num_chunks = (num_rows + SYMBOLIC_CHUNK_ROWS - 1) // SYMBOLIC_CHUNK_ROWS
    # At least one chunk, which a loop needs and JAX cannot derive from the formula.
    num_chunks = jax.core.max_dim(num_chunks, 1)
    padded = jnp.pad(rows, ((0, SYMBOLIC_CHUNK_ROWS), (0, 0)))[: num_chunks * SYMBOLIC_CHUNK_ROWS]
    y = lax.map(layer, padded.reshape(num_chunks, SYMBOLIC_CHUNK_ROWS, num_features))
    return y.reshape(num_chunks * SYMBOLIC_CHUNK_ROWS, y.shape[-1])[:num_rows]


def _small_noise_splines(key: Array, shape: tuple[int, ...], dtype: Any, *, config: KANConfig) -> Array:
    """Spline weights (in, bases, out) whose curves pass through small noise at the knots inside the grid.

    The least-norm solution for noise from U(-0.05, 0.05) / grid_size, as the reference initializes its splines.
    """
    in_features, _, out_features = shape
    noise_shape = (in_features, config.grid_size + 1, out_features)
    noise = jax.random.uniform(key, noise_shape, dtype, -0.05, 0.05) / config.grid_size
    return jnp.einsum("bp,ipo->ibo", _least_norm_fit(config).astype(dtype), noise, precision=lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=8)
def _least_norm_fit(config: KANConfig) -> np.ndarray:
    """The matrix (bases, points) from values at the knots inside the grid to spline coefficients."""
    inside = knots(config)[config.spline_order : -config.spline_order]
    with jax.ensure_compile_time_eval():
        basis = np.asarray(bspline_basis(jnp.asarray(inside), config), np.float64)
    return np.linalg.pinv(basis)
