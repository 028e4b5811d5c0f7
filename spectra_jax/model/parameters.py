"""Initial values of the network's parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers


def uniform_fan_in(fan_in: int) -> initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for linear and convolution weights and biases."""
    bound = 1 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def initial_value(rngs: nnx.Rngs | None, init: initializers.Initializer, shape: Sequence[int], dtype: Any) -> Any:
    """A value drawn with the stream `params` of `rngs`; without `rngs`, a `jax.ShapeDtypeStruct`.

    Weights are loaded into an abstract network, which has shapes only. Building one directly takes milliseconds;
    tracing the initializers with `nnx.eval_shape` takes ten seconds for the full network.
    """
    if rngs is None:
        return jax.ShapeDtypeStruct(tuple(shape), dtype)
    return init(rngs.params(), tuple(shape), dtype)
