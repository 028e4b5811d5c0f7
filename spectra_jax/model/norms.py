"""Layer norm and batch norm, with PyTorch's statistics and epsilon."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Float

from spectra_jax.model.parameters import initial_value
from spectra_jax.model.precision import Precision


class LayerNorm(nnx.Module):
    """Layer norm over the last axis, with PyTorch's two-pass variance and epsilon."""

    def __init__(self, width: int, epsilon: float, *, precision: Precision, rngs: nnx.Rngs | None):
        self.scale = nnx.Param(initial_value(rngs, initializers.ones, (width,), precision.dtype))
        self.bias = nnx.Param(initial_value(rngs, initializers.zeros, (width,), precision.dtype))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return centred * lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]


class BatchNorm(nnx.Module):
    """Batch norm over all axes but the last, with PyTorch's statistics.

    In training it normalizes by the biased variance of the batch and stores the unbiased one, as PyTorch does (Flax
    stores the biased one): `stored = (1 - momentum) * stored + momentum * batch`. `num_batches` counts those steps.
    `nnx.Module.train()` switches to batch statistics, `eval()` (the initial state) to the stored ones. Inside a
    `jax.shard_map` that splits the batch over an axis, `set_attributes(axis_name=...)` computes the statistics over
    the complete batch. After `spectra_jax.model.fold.fold_for_inference`, `var` is None and `scale` contains it.
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
        self.scale = nnx.Param(initial_value(rngs, ones, (width,), precision.dtype))
        self.bias = nnx.Param(initial_value(rngs, zeros, (width,), precision.dtype))
        self.mean = nnx.BatchStat(initial_value(rngs, zeros, (width,), precision.dtype))
        self.var: nnx.BatchStat[Array] | None = nnx.BatchStat(initial_value(rngs, ones, (width,), precision.dtype))
        self.num_batches = nnx.BatchStat(initial_value(rngs, zeros, (), jnp.int32))
        self.epsilon = epsilon
        self.momentum = momentum
        self.use_running_average = True
        self.axis_name: str | None = None

    def __call__(self, x: Float[Array, "*rows width"]) -> Float[Array, "*rows width"]:
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
            decay, momentum = 1 - self.momentum, self.momentum
            self.mean[...] = decay * self.mean[...] + momentum * lax.stop_gradient(mean)
            unbiased = var * (count / max(count - 1, 1))
            self.var[...] = decay * self.var[...] + momentum * lax.stop_gradient(unbiased)
            self.num_batches[...] = self.num_batches[...] + 1
        return (x - mean) * (lax.rsqrt(var + self.epsilon) * self.scale[...]) + self.bias[...]
