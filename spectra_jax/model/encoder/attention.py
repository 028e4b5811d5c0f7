"""Multi-head self-attention, and the gated relative position bias of WavLM."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
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
        query, keys, value = self.query(x), self.key(x), self.value(x)
        if self._may_use_cudnn(x, key) and mask is None and position_bias is None:
            # Chosen when the program is lowered, since a process with a GPU may run the network on its CPU.
            attended = lax.platform_dependent(query, keys, value, cuda=self._attend_by_cudnn, default=self._attend)
        else:
            attended = self._attend(query, keys, value, x, mask, position_bias, key)
        return self.out(attended.reshape(x.shape))

    def _attend(
        self,
        query: Float[Array, "batch frames hidden"],
        keys: Float[Array, "batch frames hidden"],
        value: Float[Array, "batch frames hidden"],
        x: Float[Array, "batch frames hidden"] | None = None,
        mask: Bool[Array, "batch frames"] | None = None,
        position_bias: Float[Array, "heads frames frames"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch frames heads features"]:
        """Attention by two products, with the attention weights in memory between them. `x` gates `position_bias`."""

        def split_heads(projected: Array) -> Array:  # (b, frames, hidden) -> (b, heads, frames, d)
            # Heads first, so that each of the many small products reads memory in order: twice as fast on a CPU.
            return self._by_head(projected).swapaxes(1, 2)

        scaled = query * self._head_size(query) ** -0.5
        query, keys, value = split_heads(scaled), split_heads(keys), split_heads(value)
        logits = self._multiply_by_head("bhqd,bhkd->bhqk", query, keys)
        if position_bias is not None and self.position_gate is not None:
            assert x is not None
            logits = logits + self.position_gate(x.reshape(self._heads_shape(x))) * position_bias
        if mask is not None:
            # The lowest finite number rather than an infinite one: a clip without a valid frame gives no NaN.
            logits = jnp.where(mask[:, None, None, :], logits, np.finfo(logits.dtype).min)
        weights = dropout(jax.nn.softmax(logits, axis=-1), self.dropout_rate, key)
        attended = self._multiply_by_head("bhqk,bhkd->bhqd", weights, value).swapaxes(1, 2)
        return attended.astype(self.precision.operand_dtype)

    def _multiply_by_head(
        self, subscripts: str, x: Float[Array, "batch heads rows inner"], y: Float[Array, "batch heads frames features"]
    ) -> Float[Array, "batch heads rows columns"]:
        """The products of each clip and head, as an einsum whose operands and result begin with the axes `bh`."""
        two_axes = functools.partial(self.precision.einsum, subscripts)
        if not self.precision.is_half:
            return two_axes(x, y)

        def one_axis(x: Array, y: Array) -> Array:
            merged = [
                part.astype(self.precision.operand_dtype).reshape(part.shape[0] * part.shape[1], *part.shape[2:])
                for part in (x, y)
            ]
            # With the barriers XLA does not put the products and the softmax into one fusion, which is slower.
            product = self.precision.einsum(subscripts.replace("bh", "b"), *lax.optimization_barrier(merged))
            return lax.optimization_barrier(product).reshape(*x.shape[:2], *product.shape[1:])

        # XLA for CPUs computes products with two batch axes in float32, whatever their operands.
        product: Array = platform_dependent(x, y, cpu=one_axis, default=two_axes)
        return product

    def _attend_by_cudnn(
        self,
        query: Float[Array, "batch frames hidden"],
        keys: Float[Array, "batch frames hidden"],
        value: Float[Array, "batch frames hidden"],
    ) -> Float[Array, "batch frames heads features"]:
        """The same by one kernel, which never writes the attention weights to memory.

        It takes no wider operands than 16 bits, and a mask or a bias only as an array over all pairs of frames, the
        size of the weights that the kernel avoids.
        """
        query, keys, value = self._by_head(query), self._by_head(keys), self._by_head(value)
        return _cudnn_attention(query, keys, value)

    def _head_size(self, x: Array) -> int:
        return x.shape[-1] // self.num_heads

    def _heads_shape(self, x: Array) -> tuple[Size, ...]:
        return (*x.shape[:-1], self.num_heads, self._head_size(x))

    def _by_head(self, projected: Array) -> Array:
        """(b, frames, hidden) -> (b, frames, heads, d), as operands of a product."""
        return projected.astype(self.precision.operand_dtype).reshape(self._heads_shape(projected))

    def _may_use_cudnn(self, x: Array, key: Array | None) -> bool:
        """Whether a program for an NVIDIA GPU uses cuDNN's kernel, if the layer has neither a mask nor a bias."""
        drops = key is not None and self.dropout_rate > 0
        # The sizes of heads that the kernel takes on every GPU that has it.
        takes_heads = self._head_size(x) % 8 == 0 and self._head_size(x) <= 128
        return self.precision.is_half and not drops and takes_heads and has_cudnn_attention()


@jax.custom_vjp
def _cudnn_attention(
    query: Float[Array, "batch frames heads features"],
    keys: Float[Array, "batch frames heads features"],
    value: Float[Array, "batch frames heads features"],
) -> Float[Array, "batch frames heads features"]:
    return jax.nn.dot_product_attention(query, keys, value, implementation="cudnn")


def _cudnn_attention_of_even_length(query: Array, keys: Array, value: Array) -> Array:
    """The same with one more frame where their number is odd, which is not attended to.

    For an odd number JAX refuses to differentiate the kernel.
    """
    batch, frames, *_ = query.shape
    if frames % 2 == 0:
        return jax.nn.dot_product_attention(query, keys, value, implementation="cudnn")
    query, keys, value = (jnp.pad(part, ((0, 0), (0, 1), (0, 0), (0, 0))) for part in (query, keys, value))
    lengths = jnp.full(batch, frames, jnp.int32)
    attended = jax.nn.dot_product_attention(
        query,
        keys,
        value,
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        implementation="cudnn",
    )
    return attended[:, :frames]


def _attend_and_pull_back(query: Array, keys: Array, value: Array) -> tuple[Array, Callable[..., Any]]:
    attended, pull_back = jax.vjp(_cudnn_attention_of_even_length, query, keys, value)
    return attended, pull_back


def _pull_back(pull_back: Callable[..., Any], cotangent: Array) -> tuple[Array, Array, Array]:
    gradients: tuple[Array, Array, Array] = pull_back(cotangent)
    return gradients


_cudnn_attention.defvjp(_attend_and_pull_back, _pull_back)


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
