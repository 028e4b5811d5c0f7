"""Multi-head self-attention, and the gated relative position bias of WavLM."""

from __future__ import annotations

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.nn import initializers
from jaxtyping import Bool, Float, PRNGKeyArray

from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.encoder.augment import dropout
from spectra_jax.model.linear import Linear
from spectra_jax.model.parameters import initial_value
from spectra_jax.model.platform import platform_dependent, target_platform
from spectra_jax.model.precision import Precision
from spectra_jax.model.quantized import QuantizedLinear
from spectra_jax.model.symbolic import Size

# Outputs of the linear layer that gates the relative position bias: the sums of two halves are the two gates.
_GATE_FEATURES = 8


def transformer_linear(in_features: int, out_features: int, *, precision: Precision, rngs: nnx.Rngs | None) -> Linear:
    """A linear layer with the initial values of the transformer."""
    return Linear(
        in_features,
        out_features,
        kernel_init=initializers.normal(0.02),
        bias_init=initializers.zeros,
        precision=precision,
        rngs=rngs,
    )


def layer_linear(
    in_features: int, out_features: int, *, precision: Precision, rngs: nnx.Rngs | None
) -> Linear | QuantizedLinear:
    """One of the six linear layers of a transformer layer, which are quantized in the precision `int8`."""
    if not precision.quantizes:
        return transformer_linear(in_features, out_features, precision=precision, rngs=rngs)
    return QuantizedLinear(
        in_features, out_features, kernel_init=initializers.normal(0.02), bias_init=initializers.zeros, rngs=rngs
    )


class SelfAttention(nnx.Module):
    """Multi-head self-attention over the frames of a clip."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        def project() -> Linear | QuantizedLinear:
            return layer_linear(config.hidden_size, config.hidden_size, precision=precision, rngs=rngs)

        self.query, self.key, self.value, self.out = project(), project(), project(), project()
        self.position_gate = (
            PositionGate(config, precision=precision, rngs=rngs) if config.model_type == "wavlm" else None
        )
        self.num_heads = config.num_attention_heads
        self.dropout_rate = config.attention_dropout
        self.precision = precision

    def __call__(
        self,
        x: Float[Array, "batch frames hidden"],
        mask: Bool[Array, "batch frames"] | None = None,
        position_bias: Float[Array, "heads frames frames"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch frames hidden"]:
        """Attend.

        Args:
          mask: the frames that are attended to; all by default. A clip without any attends to all frames alike.
          position_bias: of WavLM, as `RelativePositionBias` computes it.
          key: for dropout, in training only.
        """
        heads = (*x.shape[:-1], self.num_heads, x.shape[-1] // self.num_heads)  # (b, frames, heads, d)

        def split_heads(projected: Array) -> Array:  # (b, frames, hidden) -> (b, heads, frames, d)
            # Heads first, so that each of the many small products reads memory in order: twice as fast on a CPU.
            return projected.astype(self.precision.operand_dtype).reshape(heads).swapaxes(1, 2)

        query, keys, value = self.query(x) * heads[-1] ** -0.5, self.key(x), self.value(x)
        if self._uses_cudnn(key) and mask is None and position_bias is None:
            # One kernel, which never writes the attention weights to memory. It takes no wider operands, and a mask
            # or a bias only as an array over all pairs of frames, the size of the weights that the kernel avoids.
            query, keys, value = (
                part.astype(self.precision.operand_dtype).reshape(heads) for part in (query, keys, value)
            )
            attended = jax.nn.dot_product_attention(query, keys, value, scale=1.0, implementation="cudnn")
        else:
            query, keys, value = split_heads(query), split_heads(keys), split_heads(value)
            logits = self._multiply_by_head("bhqd,bhkd->bhqk", query, keys)
            if position_bias is not None and self.position_gate is not None:
                logits = logits + self.position_gate(x.reshape(heads)) * position_bias
            if mask is not None:
                # The lowest finite number rather than an infinite one: a clip without a valid frame gives no NaN.
                logits = jnp.where(mask[:, None, None, :], logits, np.finfo(logits.dtype).min)
            weights = dropout(jax.nn.softmax(logits, axis=-1), self.dropout_rate, key)
            attended = self._multiply_by_head("bhqk,bhkd->bhqd", weights, value).swapaxes(1, 2)
        return self.out(attended.reshape(x.shape))

    def _multiply_by_head(
        self, subscripts: str, x: Float[Array, "batch heads rows inner"], y: Float[Array, "batch heads frames features"]
    ) -> Float[Array, "batch heads rows columns"]:
        """The products of each clip and head, as an einsum whose operands and result begin with the axes `bh`."""
        two_axes = functools.partial(self.precision.einsum, subscripts)
        if jnp.dtype(self.precision.operand_dtype).itemsize >= jnp.dtype(jnp.float32).itemsize:
            return two_axes(x, y)

        def one_axis(x: Array, y: Array) -> Array:
            merged = (part.reshape(part.shape[0] * part.shape[1], *part.shape[2:]) for part in (x, y))
            product = self.precision.einsum(subscripts.replace("bh", "b"), *merged)
            return product.reshape(*x.shape[:2], *product.shape[1:])

        # XLA for CPUs computes products with two batch axes in float32, whatever their operands.
        product: Array = platform_dependent(x, y, cpu=one_axis, default=two_axes)
        return product

    def _uses_cudnn(self, key: Array | None) -> bool:
        half = self.precision.operand_dtype in (jnp.bfloat16, jnp.float16)
        drops = key is not None and self.dropout_rate > 0
        return half and not drops and has_cudnn_attention()


def has_cudnn_attention() -> bool:
    """Whether JAX runs on NVIDIA GPUs for which cuDNN has a fused attention kernel: Ampere or newer.

    A program that is traced to run elsewhere (`for_platform`) does without it: not every GPU has the kernel.
    """
    if target_platform() is not None or jax.default_backend() != "gpu":
        return False
    # AMD GPUs have an architecture such as gfx90a instead of a number.
    capability = re.fullmatch(r"(\d+)\.\d+", str(getattr(jax.devices()[0], "compute_capability", "")))
    return capability is not None and int(capability[1]) >= 8


class PositionGate(nnx.Module):
    """The factor of WavLM's relative position bias: for each head and query frame, from the frame's features."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        heads = config.num_attention_heads
        self.linear = transformer_linear(config.hidden_size // heads, _GATE_FEATURES, precision=precision, rngs=rngs)
        self.scale = nnx.Param(initial_value(rngs, initializers.ones, (1, heads, 1, 1), precision.dtype))

    def __call__(self, x: Float[Array, "batch frames heads features"]) -> Float[Array, "batch heads frames 1"]:
        gates = self.linear(x.swapaxes(1, 2))
        gates = jax.nn.sigmoid(jnp.sum(gates.reshape(*gates.shape[:-1], 2, _GATE_FEATURES // 2), axis=-1))
        update, reset = gates[..., :1], gates[..., 1:]
        return update * (reset * self.scale[...] - 1) + 2


class RelativePositionBias(nnx.Module):
    """WavLM's bias of attention logits for each head and distance of frames, which all layers share.

    transformers keeps the embedding in the first layer, which passes the bias on.
    """

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        shape = (config.num_buckets, config.num_attention_heads)
        self.embedding = nnx.Param(initial_value(rngs, initializers.normal(0.02), shape, precision.dtype))
        self.num_buckets = config.num_buckets
        self.max_distance = config.max_bucket_distance

    def __call__(self, num_frames: Size) -> Float[Array, "heads frames frames"]:
        frames = jnp.arange(num_frames)
        offset = frames[None, :] - frames[:, None]  # of the key from the query
        buckets = jnp.asarray(distance_buckets(self.num_buckets, self.max_distance))
        bucket = buckets[jnp.minimum(jnp.abs(offset), self.max_distance)]
        bucket = bucket + jnp.where(offset > 0, self.num_buckets // 2, 0)
        return jnp.moveaxis(self.embedding[...][bucket], -1, 0)


def distance_buckets(num_buckets: int, max_distance: int) -> np.ndarray:
    """The bucket of each distance from 0 to `max_distance` in one direction: exact ones, then logarithmic ones."""
    buckets = num_buckets // 2
    exact = buckets // 2
    distance = np.arange(max_distance + 1, dtype=np.int32)
    # In float32 and in this order, as the reference computes it: the results are rounded down.
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    ratio = ratio / np.float32(math.log(max_distance / exact)) * np.float32(buckets - exact)
    logarithmic = np.minimum((np.float32(exact) + ratio).astype(np.int32), buckets - 1)
    return np.where(distance < exact, distance, logarithmic)
