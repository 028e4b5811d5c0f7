"""The layers that differ between back-ends and heads: see `SpectraConfig.back_end` and `SpectraConfig.head`."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Float

from spectra_jax.model.config import KANConfig, SpectraConfig
from spectra_jax.model.hooks import StageHook, no_hook
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.linear import Linear
from spectra_jax.model.parameters import initial_value
from spectra_jax.model.precision import Precision

# Under the square roots, whose gradients are infinite at zero: for features that do not change, or are all zero.
_VARIANCE_FLOOR = 1e-5
_SQUARED_NORM_FLOOR = 1e-12


def projection(
    in_features: int, out_features: int, kan: KANConfig | None, *, precision: Precision, rngs: nnx.Rngs | None
) -> KANLinear | Linear:
    """A layer of a graph back-end: a KAN layer; without `kan`, a linear layer with PyTorch's initial weights."""
    if kan is None:
        return Linear(in_features, out_features, precision=precision, rngs=rngs)
    return KANLinear(in_features, out_features, kan, precision=precision, rngs=rngs)


def graph_kan(config: SpectraConfig) -> KANConfig | None:
    """The splines of a back-end's layers; None where they are linear."""
    return config.kan if config.back_end == "kan-aasist" else None


class CosineHead(nnx.Module):
    """Features (batch, n) -> (batch, 2): the cosine between them and a learnt direction, after its negative.

    Source: Zhang, Jiang, Duan, "One-Class Learning Towards Synthetic Voice Spoofing Detection" (2021), whose score is
    this cosine. It is between -1 and 1.
    """

    def __init__(self, in_features: int, *, precision: Precision, rngs: nnx.Rngs | None):
        self.direction = nnx.Param(initial_value(rngs, initializers.normal(1.0), (in_features,), precision.dtype))
        self.precision = precision

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch 2"]:
        cosine = self.precision.dot(_normalize(x), _normalize(self.direction[...])[:, None])
        return jnp.concatenate([-cosine, cosine], axis=-1)


def _normalize(x: Array) -> Array:
    """Vectors along the last axis, divided by their lengths; zeros stay zeros."""
    # Divided by the largest entry first, whose square can be too large or too small for the dtype.
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    x = x / jnp.where(largest > 0, largest, 1)
    return x * lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + _SQUARED_NORM_FLOOR)


def build_head(
    in_features: int, config: SpectraConfig, *, precision: Precision, rngs: nnx.Rngs | None
) -> KANLinear | Linear | CosineHead:
    """The last layer of a back-end: see `SpectraConfig.head`."""
    if config.head == "cosine":
        return CosineHead(in_features, precision=precision, rngs=rngs)
    return projection(in_features, config.num_classes, graph_kan(config), precision=precision, rngs=rngs)


class PoolLinear(nnx.Module):
    """Frame features -> logits: each feature's mean and standard deviation over the frames, then a linear layer.

    The back-end `pool+linear`. Source of the pooling: Snyder et al., "X-Vectors: Robust DNN Embeddings for Speaker
    Recognition" (2018). It ranks nothing, so that no scores are near a tie.
    """

    def __init__(self, config: SpectraConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        self.head = build_head(2 * config.bridge_dim, config, precision=precision, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch frames bridge_dim"], *, rngs: nnx.Rngs | None = None, hook: StageHook = no_hook
    ) -> Float[Array, "batch 2"]:
        """Classify frame features; `rngs` is not used. The stages are `pooled` and `logits`."""
        del rngs
        mean = jnp.mean(x, axis=1)
        variance = jnp.mean(jnp.square(x - mean[:, None]), axis=1)
        pooled = jnp.concatenate([mean, jnp.sqrt(variance + _VARIANCE_FLOOR)], axis=-1)
        return hook("logits", self.head(hook("pooled", pooled)))
