"""Convolutions over one or two axes, each by the algorithm that its size, dtype and device compute fastest."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.nn import initializers
from jaxtyping import Float

from spectra_jax.model.parameters import initial_value, uniform_fan_in
from spectra_jax.model.platform import platform_dependent
from spectra_jax.model.precision import Precision
from spectra_jax.model.symbolic import is_symbolic


class Conv(nnx.Module):
    """A convolution over one or two axes, channels last; kernel (*space, in / groups, out).

    Attributes:
      group_kernels: None. After `spectra_jax.model.fold.fold_for_inference` a sliding kernel in bfloat16 as a matrix of
        each group, (groups, size * in / groups, out / groups), which CPUs multiply with.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        *,
        strides: Sequence[int] | None = None,
        padding: Sequence[tuple[int, int]] | None = None,
        groups: int = 1,
        use_bias: bool = True,
        kernel_init: initializers.Initializer | None = None,
        bias_init: initializers.Initializer | None = None,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        default = uniform_fan_in(in_channels // groups * math.prod(kernel_size))
        shape = (*kernel_size, in_channels // groups, out_channels)
        self.kernel = nnx.Param(initial_value(rngs, kernel_init or default, shape, precision.dtype))
        bias = initial_value(rngs, bias_init or default, (out_channels,), precision.dtype)
        self.bias = nnx.Param(bias) if use_bias else None
        self.strides = tuple(strides or (1,) * len(kernel_size))
        self.padding = tuple(padding or ((0, 0),) * len(kernel_size))
        self.groups = groups
        self.precision = precision
        self.group_kernels: nnx.Param[Any] | None = nnx.data(None)

    @property
    def is_sliding(self) -> bool:
        """Whether this is a grouped convolution over one axis with stride 1."""
        return self.groups > 1 and self.strides == (1,)

    def __call__(self, x: Float[Array, "batch *space inputs"]) -> Float[Array, "batch *out_space outputs"]:
        x = self._convolve(jnp.pad(x, ((0, 0), *self.padding, (0, 0))))
        return x if self.bias is None else x + self.bias[...]

    def _convolve(self, x: Array) -> Array:
        """The convolution without padding and bias, as a matrix product or as XLA's own convolution."""
        kernel = self.kernel[...]
        if is_symbolic(*x.shape[1:]):
            # The number of patches is not known while tracing.
            return self._conv_by_xla(self.precision, x, kernel)
        if math.prod(kernel.shape[:-1]) <= _FEW_INPUTS:
            return _conv_by_matmul(x, kernel, strides=self.strides, groups=self.groups, precision=self.precision)
        return platform_dependent(x, kernel, cpu=self._on_cpu, default=self._on_device)

    def _on_cpu(self, x: Array, kernel: Array) -> Array:
        # On a CPU, XLA has a fast convolution for float32 only: float64 takes a plain loop, 50 times slower than a
        # matrix product, and bfloat16 gains nothing. Narrow groups gain from products in bfloat16 if the matrices are
        # ready, and stay in float32 otherwise: 42 ms for 4 s in the published network with XLA's convolution, 26 ms
        # with products, and 25 ms more to make the matrices (two cores of Zen 4, JAX 0.12).
        if self.group_kernels is not None:
            return _conv_by_groups(x, self.group_kernels[...], size=kernel.shape[0], precision=self.precision)
        if self.groups > 1 and self.precision.dtype == jnp.float32:
            if self.is_sliding:
                return _grouped_conv(x, kernel, self.groups, self.precision.full)
            return self._conv_by_xla(self.precision.full, x, kernel)
        if self.precision.operand_dtype == jnp.float32:
            return self._conv_by_xla(self.precision, x, kernel)
        return _conv_by_matmul(x, kernel, strides=self.strides, groups=self.groups, precision=self.precision)

    def _on_device(self, x: Array, kernel: Array) -> Array:
        """On a GPU or a TPU. The measurements are of the published network with 64 clips on an H200."""
        if self.is_sliding:
            # Half of the time of cuDNN's grouped convolution in float32. In 16 bits XLA's choice among the algorithms
            # of cuDNN took between 0.7 of the time and three times as long.
            return _conv_by_toeplitz(x, kernel, groups=self.groups, precision=self.precision)
        return self._conv_by_xla(self.precision, x, kernel, narrow=self.precision.is_half)

    def _conv_by_xla(self, precision: Precision, x: Array, kernel: Array, narrow: bool = False) -> Array:
        return precision.conv(
            x, kernel, narrow=narrow, window_strides=self.strides, padding="VALID", feature_group_count=self.groups
        )

    def by_taps(self, x: Float[Array, "batch time 1"]) -> Float[Array, "batch out_time outputs"]:
        """The same convolution over a waveform, written as a sum over the taps of the kernel.

        A compiler fuses it with what follows, so that the result need not be in memory: for a network that is not
        trained on a GPU. The backward pass would be slow.
        """
        kernel = self.kernel[...]
        size, _, _ = kernel.shape
        (stride,), frames = self.strides, (x.shape[1] - size) // self.strides[0] + 1
        y = jnp.zeros((), self.precision.dtype) if self.bias is None else self.bias[...]
        for tap in range(size):
            y = y + x[:, tap : tap + (frames - 1) * stride + 1 : stride] * kernel[tap, 0].astype(self.precision.dtype)
        return y


# A convolution over so few inputs per output (the waveform, the one-channel image) is faster as a matrix product.
_FEW_INPUTS = 32


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _grouped_conv(x: Array, kernel: Array, groups: int, precision: Precision) -> Array:
    """A grouped convolution over one axis with stride 1 and no padding: (b, time, in) -> (b, time', out)."""
    return precision.conv(x, kernel, window_strides=(1,), padding="VALID", feature_group_count=groups)


@functools.partial(_grouped_conv.defjvp, symbolic_zeros=True)
def _grouped_conv_jvp(
    groups: int, precision: Precision, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    """The usual derivative, with a kernel gradient that is a grouped convolution too.

    JAX computes that gradient as a convolution with `batch_group_count`, for which XLA on CPUs has a plain loop: in the
    published network with 2 clips of 4 s it took 0.84 s, and this takes 0.09 s.
    """
    (x, kernel), (x_tangent, kernel_tangent) = primals, tangents
    y = _grouped_conv(x, kernel, groups, precision)
    parts = []
    if not isinstance(x_tangent, SymbolicZero):
        parts.append(_grouped_conv(x_tangent, kernel, groups, precision))
    if not isinstance(kernel_tangent, SymbolicZero):
        parts.append(_slide_over_kernel(x, kernel_tangent, groups, precision))
    return y, sum(parts[1:], start=parts[0]) if parts else jnp.zeros_like(y)


def _slide_over_kernel(x: Array, kernel: Array, groups: int, precision: Precision) -> Array:
    """`_grouped_conv` with the operands in each other's role: `x` slides over the kernel.

    The outputs of the kernel become the batch, and the clips become the outputs, in reverse order of time.
    """
    (batch, samples, _), (size, width, out) = x.shape, kernel.shape
    frames = samples - size + 1
    image = kernel.reshape(size, width, groups, out // groups).transpose(3, 0, 2, 1)
    window = x.reshape(batch, samples, groups, width).transpose(1, 3, 2, 0)
    y = precision.conv(
        image.reshape(out // groups, size, groups * width),
        window.reshape(samples, width, groups * batch),
        window_strides=(1,),
        padding=((frames - 1, frames - 1),),
        feature_group_count=groups,
    )
    return y.reshape(out // groups, frames, groups, batch)[:, ::-1].transpose(3, 1, 2, 0).reshape(batch, frames, out)


# Frames of the output that one product of `_conv_by_toeplitz` computes. More of them take larger matrices, which are
# computed from the kernel in each call.
_TOEPLITZ_FRAMES = 8


def _conv_by_toeplitz(x: Array, kernel: Array, *, groups: int, precision: Precision) -> Array:
    """A grouped convolution over one axis with stride 1 and no padding, as one product for each group.

    A row of the product is a block of consecutive input frames, and the matrix has the kernel at every shift inside
    the block, so that its output is `_TOEPLITZ_FRAMES` frames: (b, time, in) -> (b, time', out).
    """
    size, width, out = kernel.shape
    shifts = _TOEPLITZ_FRAMES
    frames = x.shape[1] - size + 1
    per_block = -(-size // shifts) + 1  # blocks of `shifts` frames that a block of outputs depends on
    blocks = -(-frames // shifts)
    all_blocks = blocks + per_block - 1
    x = jnp.pad(x.astype(precision.operand_dtype), ((0, 0), (0, all_blocks * shifts - x.shape[1]), (0, 0)))
    x = x.reshape(x.shape[0], all_blocks, shifts, groups, width)
    x = jnp.stack([x[:, first : first + blocks] for first in range(per_block)], axis=2)
    x = x.reshape(x.shape[0], blocks, per_block * shifts, groups, width)
    kernel = kernel.astype(precision.operand_dtype).reshape(size, width, groups, out // groups)
    missing = per_block * shifts - size
    matrix = jnp.stack([jnp.pad(kernel, ((shift, missing - shift), (0, 0), (0, 0), (0, 0))) for shift in range(shifts)])
    y = precision.einsum("bnkgi,skigo->gbnso", x, matrix)
    return jnp.moveaxis(y, 0, 3).reshape(x.shape[0], blocks * shifts, out)[:, :frames]


def _conv_by_groups(x: Array, kernels: Array, *, size: int, precision: Precision) -> Array:
    """A grouped convolution over one axis with stride 1 and no padding, as one product over patches for each group.

    Groups in a loop, so that the patches of one stay in a CPU's cache: (b, time, in) -> (b, time', out).
    """
    groups, inputs, _ = kernels.shape
    batch, samples, _ = x.shape
    width, frames = inputs // size, samples - size + 1
    by_group = x.astype(precision.operand_dtype).reshape(batch, samples, groups, width).transpose(2, 0, 1, 3)
    taps = np.arange(frames)[:, None] * width + np.arange(inputs)

    def one_group(group: tuple[Array, Array]) -> Array:
        values, kernel = group
        return precision.dot(jnp.take(values, taps, axis=1, mode="clip"), kernel)

    y = lax.map(one_group, (by_group.reshape(groups, batch, -1), kernels))  # (groups, b, time', out / groups)
    return y.transpose(1, 2, 0, 3).reshape(batch, frames, -1)


def _conv_by_matmul(x: Array, kernel: Array, *, strides: Sequence[int], groups: int, precision: Precision) -> Array:
    """A convolution without padding as one matrix product over patches; groups in a loop, to bound memory."""
    if groups > 1:
        x_groups = jnp.stack(jnp.split(x, groups, axis=-1))
        kernels = jnp.stack(jnp.split(kernel, groups, axis=-1))
        one_group = functools.partial(_conv_by_matmul, strides=strides, groups=1, precision=precision)
        y = lax.map(lambda group: one_group(*group), (x_groups, kernels))  # (groups, b, *space', out / groups)
        return jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], -1)
    *sizes, _, out = kernel.shape
    if len(sizes) == 1 and strides[0] <= sizes[0] <= 2 * strides[0]:
        return _conv_by_blocks(x, kernel, stride=strides[0], precision=precision)
    # Patches overlap. Without the barrier XLA would compute the input again for each patch.
    x = lax.optimization_barrier(x.astype(precision.operand_dtype))
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        # Each spatial axis becomes two, positions and offsets in the kernel: (b, s0', k0, s1, c) after the first.
        axis_now = 1 + 2 * axis
        starts = np.arange(0, x.shape[axis_now] - size + 1, stride)
        x = jnp.take(x, starts[:, None] + np.arange(size), axis=axis_now, mode="clip")
    order = [0, *range(1, x.ndim - 1, 2), *range(2, x.ndim - 1, 2), x.ndim - 1]  # (b, *space', *window, c)
    x = x.transpose(order)
    x = x.reshape(*x.shape[: 1 + len(sizes)], -1)
    return precision.dot(x, kernel.reshape(-1, out))


def _conv_by_blocks(x: Array, kernel: Array, *, stride: int, precision: Precision) -> Array:
    """A convolution whose kernel is one to two strides long: (b, time, in) -> (b, time', out).

    The input is cut into blocks of `stride` samples. Each output is one block times the first part of the kernel plus
    the next block times the rest, so that no patch is copied.
    """
    size, channels, out = kernel.shape
    frames = (x.shape[1] - size) // stride + 1
    x = x.astype(precision.operand_dtype)
    x = jnp.pad(x, ((0, 0), (0, max((frames + 1) * stride - x.shape[1], 0)), (0, 0)))[:, : (frames + 1) * stride]
    blocks = x.reshape(x.shape[0], frames + 1, stride * channels)
    first, rest = kernel[:stride].reshape(-1, out), kernel[stride:].reshape(-1, out)
    y = precision.dot(blocks[:, :frames], first)
    return y + precision.dot(blocks[:, 1:, : len(rest)], rest) if len(rest) else y
