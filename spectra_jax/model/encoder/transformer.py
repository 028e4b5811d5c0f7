"""The transformer of the encoder: the positional convolution and the layers."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
from flax import nnx
from jax import Array
from jax.nn import initializers
from jaxtyping import Bool, Float, PRNGKeyArray

from spectra_jax.model.activations import gelu
from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.conv import Conv
from spectra_jax.model.encoder.attention import SelfAttention, layer_linear, transformer_linear
from spectra_jax.model.encoder.augment import dropout, split_key
from spectra_jax.model.norms import LayerNorm
from spectra_jax.model.precision import Precision


class PositionalConvolution(nnx.Module):
    """Relative position embedding: a wide grouped convolution. Its kernel is stored with the weight norm applied."""

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        kernel_size = config.num_conv_pos_embeddings
        self.conv = Conv(
            config.hidden_size,
            config.hidden_size,
            (kernel_size,),
            # An even kernel with half of its size as padding on both sides gives one frame too many. The reference
            # drops the last one, which is the same as less padding at the end.
            padding=((kernel_size // 2, kernel_size // 2 - (kernel_size % 2 == 0)),),
            groups=config.num_conv_pos_embedding_groups,
            kernel_init=initializers.normal(2 * math.sqrt(1 / (kernel_size * config.hidden_size))),
            bias_init=initializers.zeros,
            precision=precision,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "batch frames hidden"]) -> Float[Array, "batch frames hidden"]:
        return gelu(self.conv(x))


class Adapter(nnx.Module):
    """A small network after a layer, as MMS trains it for each language: layer norm, linear, ReLU, linear."""

    def __init__(self, width: int, inner: int, *, precision: Precision, rngs: nnx.Rngs | None):
        # Fixed in the reference; layer_norm_eps does not apply here.
        self.norm = LayerNorm(width, 1e-5, precision=precision, rngs=rngs)
        self.linear1 = transformer_linear(width, inner, precision=precision, rngs=rngs)
        self.linear2 = transformer_linear(inner, width, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "batch frames hidden"]) -> Float[Array, "batch frames hidden"]:
        return self.linear2(jax.nn.relu(self.linear1(self.norm(x))))


class TransformerLayer(nnx.Module):
    """Attention and a feed-forward network, each added to its input.

    Pre-norm (`do_stable_layer_norm`): `x + attention(norm(x))`, then `x + feed_forward(norm(x))`. Post-norm:
    `norm(x + attention(x))`, then `norm(x + feed_forward(x))`. Adapters exist in the pre-norm form only.
    """

    def __init__(self, config: EncoderConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention_norm = LayerNorm(width, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.attention = SelfAttention(config, precision=precision, rngs=rngs)
        self.feed_forward_norm = LayerNorm(width, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.feed_forward_in = layer_linear(width, inner, precision=precision, rngs=rngs)
        self.feed_forward_out = layer_linear(inner, width, precision=precision, rngs=rngs)
        self.adapter = (
            Adapter(width, config.adapter_attn_dim, precision=precision, rngs=rngs)
            if has_adapters(config) and config.adapter_attn_dim is not None
            else None
        )
        self.is_pre_norm = config.do_stable_layer_norm
        self.hidden_dropout = config.hidden_dropout
        self.activation_dropout = config.activation_dropout

    def __call__(
        self,
        x: Float[Array, "batch frames hidden"],
        *,
        mask: Bool[Array, "batch frames"] | None = None,
        position_bias: Float[Array, "heads frames frames"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "batch frames hidden"]:
        """The next hidden state. The optional arguments are those of `SelfAttention`."""
        attention_key, hidden_key, feed_forward_key = split_key(key, 3)
        attend = functools.partial(self.attention, mask=mask, position_bias=position_bias, key=attention_key)
        if self.is_pre_norm:
            x = x + dropout(attend(self.attention_norm(x)), self.hidden_dropout, hidden_key)
            x = x + self._feed_forward(self.feed_forward_norm(x), feed_forward_key)
            return x if self.adapter is None else x + self.adapter(x)
        x = self.attention_norm(x + dropout(attend(x), self.hidden_dropout, hidden_key))
        return self.feed_forward_norm(x + self._feed_forward(x, feed_forward_key))

    def _feed_forward(self, x: Array, key: PRNGKeyArray | None) -> Array:
        inner_key, outer_key = split_key(key, 2)
        x = dropout(gelu(self.feed_forward_in(x)), self.activation_dropout, inner_key)
        return dropout(self.feed_forward_out(x), self.hidden_dropout, outer_key)


def has_adapters(config: EncoderConfig) -> bool:
    """Whether the layers have adapters: transformers has them in the pre-norm form, and not in WavLM."""
    return config.adapter_attn_dim is not None and config.do_stable_layer_norm and config.model_type != "wavlm"


@functools.partial(jax.jit, static_argnums=0)
def run_layer(graph: nnx.GraphDef[TransformerLayer], weights: Any, x: Array, **context: Array) -> Array:
    """One layer. All layers that differ in their weights only are traced and lowered once.

    JAX caches the trace: after code has been replaced, as in tests, call `jax.clear_caches()`.
    """
    return nnx.merge(graph, weights)(x, **context)
