"""The layers that several parts of the network share, each computing under an explicit `Precision`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.nn import initializers

from spectra_jax.precision import Precision

Tap = Callable[[str, jax.Array], jax.Array]
"""Sees every named stage of a forward pass as it is computed, and returns what the pass goes on with."""


def untapped(name: str, value: jax.Array) -> jax.Array:
    """The tap that neither looks nor changes anything."""
    del name
    return value


def uniform_fan_in(fan_in: int) -> initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for linear and convolution weights and biases."""
    bound = 1 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **_: object) -> jax.Array:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return init


def initial(
    rngs: nnx.Rngs | None, init: initializers.Initializer, shape: Sequence[int], dtype: Any
) -> jax.Array | jax.ShapeDtypeStruct:
    """An initial value from the stream `params`, or, without `rngs`, its shape alone.

    A network of shapes is what weights are loaded into. Building it directly takes milliseconds; tracing the
    initialisers with `nnx.eval_shape` takes ten seconds for the full network.
    """
    if rngs is None:
        return jax.ShapeDtypeStruct(tuple(shape), dtype)
    return init(rngs.params(), tuple(shape), dtype)


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
        x = self.precision.conv(
            x,
            self.kernel[...],
            window_strides=self.strides,
            padding=self.padding,
            feature_group_count=self.groups,
        )
        return x if self.bias is None else x + self.bias[...]


class BatchNorm(nnx.Module):
    """Batch norm over all axes but the last, with PyTorch's statistics.

    Normalises by the biased variance of the batch and keeps the unbiased one, as PyTorch does (Flax keeps the biased
    one), moving the stored statistics by `momentum` = 0.1 of the way at each step. `num_batches` counts those steps.
    `nnx.Module.train()` switches to batch statistics, `eval()` (the initial state) to the stored ones.
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
        self.var = nnx.BatchStat(initial(rngs, ones, (width,), precision.dtype))
        self.num_batches = nnx.BatchStat(initial(rngs, zeros, (), jnp.int32))
        self.epsilon = epsilon
        self.momentum = momentum
        self.use_running_average = True

    def __call__(self, x: jax.Array) -> jax.Array:  # (..., width)
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            axes = tuple(range(x.ndim - 1))
            mean, var = jnp.mean(x, axes), jnp.var(x, axes)
            count = x.size // x.shape[-1]
            keep, move = 1 - self.momentum, self.momentum
            self.mean[...] = keep * self.mean[...] + move * lax.stop_gradient(mean)
            unbiased = var * (count / max(count - 1, 1))
            self.var[...] = keep * self.var[...] + move * lax.stop_gradient(unbiased)
            self.num_batches[...] = self.num_batches[...] + 1
        return (x - mean) * (lax.rsqrt(var + self.epsilon) * self.scale[...]) + self.bias[...]
