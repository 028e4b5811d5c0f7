"""The random parts of training: dropout, and the masks of SpecAugment.

Each function takes a key. Without one, as in evaluation, `dropout` returns its argument.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, PRNGKeyArray


def dropout(x: Float[Array, "*shape"], rate: float, key: PRNGKeyArray | None) -> Float[Array, "*shape"]:
    """Zeros with probability `rate`; the other values are divided by `1 - rate`. Without a key, `x` itself."""
    if key is None or rate == 0:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


def split_key(key: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray] | list[None]:
    """`count` independent keys; without a key, that many times None."""
    return [None] * count if key is None else list(jax.random.split(key, count))


def span_mask(
    key: PRNGKeyArray,
    lengths: Int[Array, " batch"],
    size: int,
    *,
    probability: float,
    span: int,
    min_spans: int,
) -> Bool[Array, "batch size"]:
    """Random spans of positions, as SpecAugment masks them (Park et al., 2019).

    The distribution is that of the function `_compute_mask_indices` of transformers: in each row,
    `probability * length / span` spans, rounded up or down at random (for all rows alike) and at least `min_spans`,
    start at different positions, and end within `lengths`. Spans may overlap.

    Args:
      lengths: valid positions of each row; may be traced.
      size: positions of a row.

    Raises:
      ValueError: a span is longer than a row.
    """
    if span > size:
        raise ValueError(
            f"SpecAugment masks spans of {span} positions, but the axis has {size}: use longer clips, or set "
            "mask_time_length or mask_feature_length to a smaller number"
        )
    rounding_key, start_key = jax.random.split(key)
    starts = jnp.maximum(lengths - (span - 1), 0)  # positions at which a span may start
    share = lengths.astype(jnp.float32) * (probability / span)
    count = jnp.floor(share + jax.random.uniform(rounding_key, dtype=jnp.float32)).astype(lengths.dtype)
    count = jnp.minimum(jnp.maximum(count, min_spans), jnp.minimum(size // span, starts))
    # The `count` positions with the lowest of random numbers, among those at which a span may start.
    positions = jnp.arange(size, dtype=lengths.dtype)
    order = jax.random.uniform(start_key, (*lengths.shape, size), jnp.float32)
    order = jnp.where(positions < starts[:, None], order, 2)
    rank = jnp.argsort(jnp.argsort(order, axis=-1), axis=-1)
    started = jnp.cumsum(rank.astype(lengths.dtype) < count[:, None], axis=-1)
    # A position is masked if a span started at it or at one of the `span - 1` positions before.
    before = jnp.pad(started, ((0, 0), (span, 0)))[:, :size]
    return started > before
