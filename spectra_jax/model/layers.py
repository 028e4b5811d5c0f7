"""The layers that several parts of the network share, each computing under an explicit `Precision`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.nn import initializers

from spectra_jax.model.precision import Precision

Tap = Callable[[str, jax.Array], jax.Array]
"""Sees every named stage of a forward pass as it is computed, and returns what the pass goes on with."""


def untapped(name: str, value: jax.Array) -> jax.Array:
    """The tap that neither looks nor changes anything."""
    del name
    return value


def uniform_fan_in(fan_in: int) -> initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for linear and convolution weights and biases."""
    bound = 1 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def initial(rngs: nnx.Rngs | None, init: initializers.Initializer, shape: Sequence[int], dtype: Any) -> Any:
    """An initial value from the stream `params`, or, without `rngs`, its shape alone.

    A network of shapes is what weights are loaded into. Building it directly takes milliseconds; tracing the
    initialisers with `nnx.eval_shape` takes ten seconds for the full network.
    """
    if rngs is None:
        return jax.ShapeDtypeStruct(tuple(shape), dtype)
    return init(rngs.params(), tuple(shape), dtype)


def selu(x: jax.Array) -> jax.Array:
    """SELU, with PyTorch's constants and not a `where`, which takes a CPU longer."""
    return 1.0507009873554805 * (jnp.maximum(x, 0) + 1.6732632423543772 * jnp.expm1(jnp.minimum(x, 0)))


def worked_out(compute: Callable[..., np.ndarray], *values: Any) -> Any:
    """What numpy computes of some weights; of a network of shapes, the shape of that."""
    if not isinstance(values[0], jax.ShapeDtypeStruct):
        # `jnp.asarray` would compile a copy for each shape.
        return jax.device_put(compute(*map(np.asarray, values)))
    computed = compute(*(np.ones(value.shape, value.dtype) for value in values))
    return jax.ShapeDtypeStruct(computed.shape, computed.dtype)


class LayerNorm(nnx.Module):
    """Layer norm over the last axis, with PyTorch's two-pass variance and epsilon."""

    def __init__(self, width: int, epsilon: float, *, precision: Precision, rngs: nnx.Rngs | None):
        self.scale = nnx.Param(initial(rngs, initializers.ones, (width,), precision.dtype))
        self.bias = nnx.Param(initial(rngs, initializers.zeros, (width,), precision.dtype))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:  # (..., width)
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return centred * lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]


class Linear(nnx.Module):
    """`x @ kernel + bias`; kernel (in, out), one array of its own per layer, the order CPU matmuls like best."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kernel_init: initializers.Initializer | None = None,
        bias_init: initializers.Initializer | None = None,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        default = uniform_fan_in(in_features)
        shape = (in_features, out_features)
        self.kernel = nnx.Param(initial(rngs, kernel_init or default, shape, precision.dtype))
        self.bias = nnx.Param(initial(rngs, bias_init or default, (out_features,), precision.dtype))
        self.precision = precision

    def __call__(self, x: jax.Array) -> jax.Array:  # (..., in) -> (..., out)
        return self.precision.dot(x, self.kernel[...]) + self.bias[...]


class Conv(nnx.Module):
    """A convolution over one or two axes, channels last; kernel (*space, in / groups, out)."""

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
        self.kernel = nnx.Param(initial(rngs, kernel_init or default, shape, precision.dtype))
        bias = initial(rngs, bias_init or default, (out_channels,), precision.dtype)
        self.bias = nnx.Param(bias) if use_bias else None
        self.strides = tuple(strides or (1,) * len(kernel_size))
        self.padding = tuple(padding or ((0, 0),) * len(kernel_size))
        self.groups = groups
        self.precision = precision

    def __call__(self, x: jax.Array) -> jax.Array:  # (b, *space, in) -> (b, *space', out)
        x = jnp.pad(x, ((0, 0), *self.padding, (0, 0)))

        def by_conv(precision: Precision, x: jax.Array, kernel: jax.Array) -> jax.Array:
            return precision.conv(
                x, kernel, window_strides=self.strides, padding="VALID", feature_group_count=self.groups
            )

        by_matmul = functools.partial(
            _conv_by_matmul, strides=self.strides, groups=self.groups, precision=self.precision
        )
        kernel = self.kernel[...]
        if math.prod(kernel.shape[:-1]) <= _FEW_INPUTS:
            x = by_matmul(x, kernel)
        elif self.precision.operand_dtype == jnp.float32:
            x = by_conv(self.precision, x, kernel)
        else:
            # XLA convolves float32 well on a CPU, and nothing else: float64 takes a plain loop there, 50 times slower
            # than a matmul, and bfloat16 gains nothing. Narrow groups gain nothing from bfloat16 matmuls either, so
            # those are not rounded at all.
            keeps = self.groups > 1 and self.precision.dtype == jnp.float32
            cpu = functools.partial(by_conv, self.precision.full) if keeps else by_matmul
            x = lax.platform_dependent(x, kernel, cpu=cpu, default=functools.partial(by_conv, self.precision))
        return x if self.bias is None else x + self.bias[...]


# A convolution over so few inputs per output (the waveform itself, the one-channel image) is better off as a matmul.
_FEW_INPUTS = 32


def _conv_by_matmul(
    x: jax.Array, kernel: jax.Array, *, strides: Sequence[int], groups: int, precision: Precision
) -> jax.Array:
    """A convolution without padding as one matrix product over patches; groups one after another, to bound memory."""
    if groups > 1:
        x_groups = jnp.stack(jnp.split(x, groups, axis=-1))
        kernels = jnp.stack(jnp.split(kernel, groups, axis=-1))
        one = functools.partial(_conv_by_matmul, strides=strides, groups=1, precision=precision)
        y = lax.map(lambda group: one(*group), (x_groups, kernels))  # (groups, b, *space', out / groups)
        return jnp.moveaxis(y, 0, -2).reshape(*y.shape[1:-1], -1)
    *sizes, _, out = kernel.shape
    if len(sizes) == 1 and strides[0] <= sizes[0] <= 2 * strides[0]:
        return _conv_by_blocks(x, kernel, stride=strides[0], precision=precision)
    # Patches overlap, and XLA would compute what they are made of once for each.
    x = lax.optimization_barrier(x.astype(precision.operand_dtype))
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        # (b, s0', k0, s1, c): each axis done leaves its window axis behind it
        place = 1 + 2 * axis
        starts = np.arange(0, x.shape[place] - size + 1, stride)
        x = jnp.take(x, starts[:, None] + np.arange(size), axis=place, mode="clip")
    order = [0, *range(1, x.ndim - 1, 2), *range(2, x.ndim - 1, 2), x.ndim - 1]  # (b, *space', *window, c)
    x = x.transpose(order)
    x = x.reshape(*x.shape[: 1 + len(sizes)], -1)
    return precision.dot(x, kernel.reshape(-1, out))


def _conv_by_blocks(x: jax.Array, kernel: jax.Array, *, stride: int, precision: Precision) -> jax.Array:
    """A convolution whose kernel is one stride long, or up to two: (b, time, in) -> (b, time', out).

    Frames are taken `stride` at a time, and each output is one such block times the kernel's first part plus the next
    block times the rest: no patch is ever copied.
    """
    taps, channels, out = kernel.shape
    frames = (x.shape[1] - taps) // stride + 1
    x = x.astype(precision.operand_dtype)
    x = jnp.pad(x, ((0, 0), (0, max((frames + 1) * stride - x.shape[1], 0)), (0, 0)))[:, : (frames + 1) * stride]
    blocks = x.reshape(x.shape[0], frames + 1, stride * channels)
    first, rest = kernel[:stride].reshape(-1, out), kernel[stride:].reshape(-1, out)
    y = precision.dot(blocks[:, :frames], first)
    return y + precision.dot(blocks[:, 1:, : len(rest)], rest) if len(rest) else y


class BatchNorm(nnx.Module):
    """Batch norm over all axes but the last, with PyTorch's statistics.

    Normalises by the biased variance of the batch and keeps the unbiased one, as PyTorch does (Flax keeps the biased
    one), moving the stored statistics by `momentum` = 0.1 of the way at each step. `num_batches` counts those steps.
    `nnx.Module.train()` switches to batch statistics, `eval()` (the initial state) to the stored ones. Inside a
    `jax.shard_map` with the batch over an axis, `set_attributes(axis_name=...)` makes the statistics those of the whole
    batch.
    """

    def __init__(
        self,
        width: int,
        *,
        precision: Precision,
        rngs: nnx.Rngs | None,
        epsilon: float = 1e-5,
        momentum: float = 0.1,
    ):
        zeros, ones = initializers.zeros, initializers.ones
        self.scale = nnx.Param(initial(rngs, ones, (width,), precision.dtype))
        self.bias = nnx.Param(initial(rngs, zeros, (width,), precision.dtype))
        self.mean = nnx.BatchStat(initial(rngs, zeros, (width,), precision.dtype))
        self.var: nnx.BatchStat[jax.Array] | None = nnx.BatchStat(initial(rngs, ones, (width,), precision.dtype))
        self.num_batches = nnx.BatchStat(initial(rngs, zeros, (), jnp.int32))
        self.epsilon = epsilon
        self.momentum = momentum
        self.use_running_average = True
        self.axis_name: str | None = None

    def fold(self) -> None:
        """Work out once what the stored variance does: see `spectra_jax.model.spectra.folded`."""
        assert self.var is not None
        values = self.scale.get_value(), self.var.get_value()
        # A variable of its own: another layer may share the old one.
        self.scale = nnx.Param(worked_out(lambda scale, var: 1 / np.sqrt(var + self.epsilon) * scale, *values))
        self.var = None

    def __call__(self, x: jax.Array) -> jax.Array:  # (..., width)
        if self.var is None:
            return (x - self.mean[...]) * self.scale[...] + self.bias[...]
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            axes = tuple(range(x.ndim - 1))
            mean, count = jnp.mean(x, axes), x.size // x.shape[-1]
            if self.axis_name is not None:
                mean, count = lax.pmean(mean, self.axis_name), count * lax.axis_size(self.axis_name)
            var = jnp.mean(jnp.square(x - mean), axes)
            if self.axis_name is not None:
                var = lax.pmean(var, self.axis_name)
            keep, move = 1 - self.momentum, self.momentum
            self.mean[...] = keep * self.mean[...] + move * lax.stop_gradient(mean)
            unbiased = var * (count / max(count - 1, 1))
            self.var[...] = keep * self.var[...] + move * lax.stop_gradient(unbiased)
            self.num_batches[...] = self.num_batches[...] + 1
        return (x - mean) * (lax.rsqrt(var + self.epsilon) * self.scale[...]) + self.bias[...]
