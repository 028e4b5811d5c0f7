"""The precision of the network's arithmetic: one explicit policy instead of JAX's global configuration."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding
from jaxtyping import Float

from spectra_jax.model.platform import platform_dependent

PrecisionName = Literal["float32", "tf32", "bfloat16", "float16", "int8", "float64"]


@dataclass(frozen=True)
class Precision:
    """The dtypes in which matrix products and convolutions of the speech encoder are computed.

    Norms, softmax, splines and accumulators are always `dtype`, and so is everything after the encoder:
    its graph pools rank nodes, and a coarser ranking costs more accuracy than it saves time.

    | name | operands | accumulator | means |
    | --- | --- | --- | --- |
    | float32 | float32 | float32 | true float32 on every backend, never TF32 or bfloat16 passes |
    | tf32 | float32 | float32 | TF32 on NVIDIA GPUs, three bfloat16 passes on TPUs; where neither exists, float32 |
    | bfloat16 | bfloat16 | float32 | also the encoder's weights and, except on CPUs, results of products |
    | float16 | float16 | float32 | as bfloat16, with smaller errors; operands beyond 65,504 become infinite |
    | int8 | int8 | int32 | in the linear layers of the transformer, for inference; the rest as in bfloat16 |
    | float64 | float64 | float64 | needs x64: `jax.enable_x64(True)`, or the `Scorer`, which enables it |
    """

    name: PrecisionName
    dtype: Any = jnp.float32
    operand_dtype: Any = jnp.float32
    lax: lax.Precision = lax.Precision.HIGHEST
    quantizes: bool = False
    """Whether the six linear layers of each transformer layer are `spectra_jax.model.quantized.QuantizedLinear`."""

    @classmethod
    def of(cls, name: Precision | str) -> Precision:
        """The policy with this name; a policy is returned as it is.

        Raises:
          ValueError: no such precision.
        """
        if isinstance(name, Precision):
            return name
        if name not in PRECISIONS:
            raise ValueError(f"precision {name!r} is not one of {', '.join(get_args(PrecisionName))}")
        return PRECISIONS[name]

    @property
    def is_half(self) -> bool:
        """Whether operands have 16 bits."""
        return jnp.dtype(self.operand_dtype).itemsize == 2

    @property
    def full(self) -> Precision:
        """The same accumulator dtype without reduced operands: the policy of everything after the encoder."""
        return PRECISIONS["float64" if self.name == "float64" else "float32"]

    def require_mode(self) -> None:
        """Check that JAX is in the mode that this precision needs.

        Raises:
          ValueError: float64 without x64, where JAX would compute in float32 without a warning.
        """
        if jax.dtypes.canonicalize_dtype(self.dtype) != self.dtype:
            raise ValueError("float64 needs JAX's x64 mode: load and run inside `with jax.enable_x64(True):`")

    def dot(
        self, x: Float[Array, "*rows k"], weight: Float[Array, "k n"], *, narrow: bool = False
    ) -> Float[Array, "*rows n"]:
        """The matrix product: the last axis of `x` contracted with the first axis of `weight`.

        Args:
          narrow: write the result of the product in the operands' type, and widen it then.
        """
        if self.name == "bfloat16" and not narrow:
            return _bfloat16_dot(*_varying_alike(x, weight))
        y = lax.dot_general(
            x.astype(self.operand_dtype),
            weight.astype(self.operand_dtype),
            (((x.ndim - 1,), (0,)), ((), ())),
            precision=self.lax,
            preferred_element_type=self.operand_dtype if narrow else self.dtype,
        )
        return y.astype(self.dtype)

    def linear(
        self, x: Float[Array, "*rows k"], weight: Float[Array, "k n"], bias: Float[Array, " n"]
    ) -> Float[Array, "*rows n"]:
        """`x @ weight + bias`.

        GPUs and TPUs are bound by memory as often as by arithmetic. There the result of a product of 16-bit operands
        is written in 16 bits, and its gradient is a product of 16-bit operands again. The bias is added in 32 bits: in
        16, it would be rounded and its gradient a sum of 16-bit numbers over all rows. On CPUs XLA computes products
        with 32-bit results in half of the time.
        """
        if not self.is_half:
            return self.dot(x, weight) + bias
        narrow = functools.partial(self.dot, narrow=True)
        return platform_dependent(x, weight, cpu=self.dot, default=narrow) + bias

    def einsum(self, subscripts: str, *operands: Float[Array, ...]) -> Float[Array, ...]:
        """`jnp.einsum` under this policy."""
        return jnp.einsum(
            subscripts,
            *(operand.astype(self.operand_dtype) for operand in operands),
            precision=self.lax,
            preferred_element_type=self.dtype,
        )

    def conv(
        self, x: Float[Array, ...], kernel: Float[Array, ...], *, narrow: bool = False, **options: Any
    ) -> Float[Array, ...]:
        """`lax.conv_general_dilated` under this policy; channels last: x (b, *space, in), kernel (*space, in, out).

        Args:
          narrow: write the result of the convolution in the operands' type, and widen it then.
        """
        layout = ("NWC", "WIO", "NWC") if x.ndim == 3 else ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            x.astype(self.operand_dtype),
            kernel.astype(self.operand_dtype),
            dimension_numbers=layout,
            precision=self.lax,
            preferred_element_type=self.operand_dtype if narrow else self.dtype,
            **options,
        )
        return y.astype(self.dtype)


@jax.custom_vjp
def _bfloat16_dot(x: Float[Array, "*rows k"], weight: Float[Array, "k n"]) -> Float[Array, "*rows n"]:
    """`Precision.dot` in bfloat16, whose gradients are products of bfloat16 operands, too.

    JAX would multiply the float32 cotangent with an operand in bfloat16, and XLA computes that at the rate of float32.
    The derivative is one for reverse mode: `jax.jvp` raises TypeError.
    """
    return _dot_of_bfloat16(x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16), ((x.ndim - 1,), (0,)))


def _varying_alike(*operands: Array) -> list[Array]:
    """Operands that vary over the same axes of a `jax.shard_map`, as a gradient does that is not JAX's own."""
    varying = [jax.typeof(operand).manual_axis_type.varying for operand in operands]
    axes = frozenset[str]().union(*varying)
    return [
        lax.pcast(operand, tuple(axes - own), to="varying") if axes - own else operand
        for operand, own in zip(operands, varying, strict=True)
    ]


def _dot_of_bfloat16(
    a: Array, b: Array, contracted: tuple[Sequence[int], Sequence[int]], out_sharding: NamedSharding | None = None
) -> Array:
    """Product of bfloat16 operands with float32 accumulators."""
    return lax.dot_general(a, b, (contracted, ((), ())), preferred_element_type=jnp.float32, out_sharding=out_sharding)


def _bfloat16_dot_forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array, Any, Any]]:
    kept = x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)
    # Types of JAX are no arrays; empty arrays carry them.
    return _dot_of_bfloat16(*kept, ((x.ndim - 1,), (0,))), (*kept, jnp.empty(0, x.dtype), jnp.empty(0, weight.dtype))


def _bfloat16_dot_backward(kept: tuple[Array, Array, Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, weight, like_x, like_weight = kept
    narrow, rows = cotangent.astype(jnp.bfloat16), tuple(range(x.ndim - 1))
    return (
        _dot_of_bfloat16(narrow, weight, ((x.ndim - 1,), (1,)), _explicit_sharding(x)).astype(like_x.dtype),
        _dot_of_bfloat16(x, narrow, (rows, rows), _explicit_sharding(weight)).astype(like_weight.dtype),
    )


def _explicit_sharding(operand: Array) -> NamedSharding | None:
    """Where axes of the mesh are explicit, a gradient is sharded as its operand: JAX does not choose it."""
    sharding: NamedSharding = jax.typeof(operand).sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None


_bfloat16_dot.defvjp(_bfloat16_dot_forward, _bfloat16_dot_backward)


PRECISIONS: dict[str, Precision] = {
    "float32": Precision("float32"),
    "tf32": Precision("tf32", lax=lax.Precision.HIGH),
    "bfloat16": Precision("bfloat16", operand_dtype=jnp.bfloat16, lax=lax.Precision.DEFAULT),
    "float16": Precision("float16", operand_dtype=jnp.float16, lax=lax.Precision.DEFAULT),
    "int8": Precision("int8", operand_dtype=jnp.bfloat16, lax=lax.Precision.DEFAULT, quantizes=True),
    "float64": Precision("float64", dtype=jnp.float64, operand_dtype=jnp.float64),
}
