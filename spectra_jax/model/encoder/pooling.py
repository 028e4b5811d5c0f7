"""From frames to one vector for each clip, and from the hidden states of all layers to one."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.nn import initializers
from jaxtyping import Bool, Float

from spectra_jax.model.parameters import initial_value

_Frames = Float[Array | np.ndarray, "batch frames width"]


def mean_pool(x: _Frames, mask: Bool[Array | np.ndarray, "batch frames"] | None = None) -> Float[Array, "batch width"]:
    """The mean of the valid frames: zeros for a clip that has none.

    Args:
      mask: whether each frame is valid (`frame_mask`); all by default.
    """
    return _mean(jnp.asarray(x), mask)[:, 0]


def statistics_pool(
    x: _Frames, mask: Bool[Array | np.ndarray, "batch frames"] | None = None, epsilon: float = 1e-10
) -> Float[Array, "batch twice_width"]:
    """The mean and the standard deviation of the valid frames, one after the other.

    The deviation is the biased one, and `epsilon` is a lower bound of the variance, which keeps the gradient finite
    for frames that are all the same (the gradient of the deviation is then zero).

    Args:
      mask: whether each frame is valid (`frame_mask`); all by default.
    """
    x = jnp.asarray(x)
    mean = _mean(x, mask)
    variance = _mean(jnp.square(x - mean), mask)[:, 0]
    return jnp.concatenate([mean[:, 0], jnp.sqrt(jnp.maximum(variance, epsilon))], axis=-1)


def _mean(x: Array, mask: Array | np.ndarray | None) -> Array:
    """The mean over valid frames: (b, 1, width)."""
    if x.ndim != 3:
        raise ValueError(f"expected frames of shape (batch, frames, width), found {x.shape}")
    if mask is None:
        return jnp.mean(x, axis=1, keepdims=True)
    valid = jnp.asarray(mask)
    if valid.shape != x.shape[:2]:
        raise ValueError(f"expected a mask of shape {x.shape[:2]}, one value for each frame, found {valid.shape}")
    valid = valid[..., None]
    count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1).astype(x.dtype)
    # Not a product with the mask: padded frames may hold anything.
    return jnp.sum(jnp.where(valid, x, 0), axis=1, keepdims=True) / count


class WeightedLayerSum(nnx.Module):
    """A learnt weighted sum of hidden states, as SUPERB and s3prl use it: softmax weights, equal at the start.

    Args:
      num_layers: hidden states, `config.num_hidden_layers + 1`.
      normalize: whether each hidden state is first normalized over its features by a layer norm without weights.
    """

    def __init__(self, num_layers: int, *, normalize: bool = False, rngs: nnx.Rngs | None):
        self.weights = nnx.Param(initial_value(rngs, initializers.zeros, (num_layers,), jnp.float32))
        self.normalize = normalize

    def __call__(self, hidden_states: Sequence[_Frames]) -> Float[Array, "batch frames width"]:
        """The sum of the hidden states.

        Raises:
          ValueError: another number of hidden states than weights.
        """
        count = self.weights[...].shape[0]
        if len(hidden_states) != count:
            raise ValueError(f"the sum has weights for {count} hidden states, but {len(hidden_states)} were given")
        states = [_normalize(state) if self.normalize else jnp.asarray(state) for state in hidden_states]
        weights = jax.nn.softmax(self.weights[...]).astype(states[0].dtype)
        weighted = [weight * state for weight, state in zip(weights, states, strict=True)]
        return sum(weighted[1:], start=weighted[0])


def _normalize(x: Array | np.ndarray) -> Array:
    """`torch.nn.functional.layer_norm` over the last axis."""
    x = jnp.asarray(x)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-5)
