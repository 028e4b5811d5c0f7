"""Matrix products of 8-bit integers: weights quantized once, activations in every call."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Float, Float32, Int8

from spectra_jax.model.parameters import initial_value

_LARGEST = 127
"""The range is symmetric, -127 to 127, so that 0 is exact and a product needs no sum over the other operand."""


class QuantizedWeight(nnx.Variable[Any]):
    """A weight of 8-bit integers, or its scales. It is not trained: `spectra_jax.split` puts it into `rest`."""


class QuantizedLinear(nnx.Module):
    """`x @ kernel + bias` with 8-bit operands and 32-bit sums, for inference.

    Attributes:
      weight: (out, in) int8, the order in which products of 8-bit integers are fastest on CPUs and on NVIDIA GPUs.
      scale: (out,) float32: `scale[j] * weight[j]` is about column j of the kernel.
      bias: (out,) float32.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kernel_init: initializers.Initializer,
        bias_init: initializers.Initializer,
        rngs: nnx.Rngs | None,
    ):
        kernel = initial_value(rngs, kernel_init, (in_features, out_features), jnp.float32)
        weight: Any = jax.ShapeDtypeStruct((out_features, in_features), jnp.int8)
        scale: Any = jax.ShapeDtypeStruct((out_features,), jnp.float32)
        if rngs is not None:
            weight, scale = map(jnp.asarray, quantize_kernel(np.asarray(kernel)))
        self.weight, self.scale = QuantizedWeight(weight), QuantizedWeight(scale)
        self.bias = nnx.Param(initial_value(rngs, bias_init, (out_features,), jnp.float32))

    def __call__(self, x: Float[Array, "*rows inputs"]) -> Float[Array, "*rows outputs"]:
        rows, row_scale = quantize_rows(x)
        contracted = (((rows.ndim - 1,), (1,)), ((), ()))
        sums = lax.dot_general(rows, self.weight[...], contracted, preferred_element_type=jnp.int32)
        return sums.astype(jnp.float32) * row_scale * self.scale[...] + self.bias[...]


def quantize_rows(x: Float[Array, "*rows inputs"]) -> tuple[Int8[Array, "*rows inputs"], Float32[Array, "*rows 1"]]:
    """Each row as 8-bit integers, and its scale: `integers * scale` differs from `x` by at most half of the scale.

    A row with NaN or infinite values has a scale that is not finite, so that its products are not finite either.
    """
    x = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    # A row of zeros is divided by 1.
    factor = _LARGEST / jnp.where(largest == 0, 1, largest)
    return jnp.round(x * factor).astype(jnp.int8), largest / _LARGEST


def quantize_kernel(kernel: Float[np.ndarray, "inputs outputs"]) -> tuple[np.ndarray, np.ndarray]:
    """A kernel as 8-bit integers (out, in), and the scale of each output (out,): see `QuantizedLinear`."""
    kernel = np.asarray(kernel, np.float32)
    largest = np.maximum(kernel.max(axis=0), -kernel.min(axis=0))
    # Damaged weights are reported when all of them have been read.
    with np.errstate(invalid="ignore", over="ignore"):
        steps = kernel * (np.float32(_LARGEST) / np.where(largest == 0, np.float32(1), largest))
        np.rint(steps, out=steps)
        # Transposed as integers, which is a quarter of the memory.
        return np.ascontiguousarray(steps.astype(np.int8).T), largest / np.float32(_LARGEST)
