"""The linear layer of the encoder and the bridge, computed under an explicit `Precision`."""

from __future__ import annotations

from flax import nnx
from jax import Array
from jax.nn import initializers
from jaxtyping import Float

from spectra_jax.model.parameters import initial_value, uniform_fan_in
from spectra_jax.model.precision import Precision


class Linear(nnx.Module):
    """`x @ kernel + bias`; kernel (in, out), the order in which CPU matrix products are fastest."""

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
        self.kernel = nnx.Param(initial_value(rngs, kernel_init or default, shape, precision.dtype))
        self.bias = nnx.Param(initial_value(rngs, bias_init or default, (out_features,), precision.dtype))
        self.precision = precision

    def __call__(self, x: Float[Array, "*rows inputs"]) -> Float[Array, "*rows outputs"]:
        return self.precision.linear(x, self.kernel[...], self.bias[...])
