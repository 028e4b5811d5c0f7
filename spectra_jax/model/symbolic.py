"""Sizes that are not known while a program is traced: the symbolic dimensions of `jax.export`."""

from __future__ import annotations

from typing import Any

import jax
from jax.export import is_symbolic_dim

from spectra_jax.model.config import EncoderConfig

Size = Any
"""An `int` or a symbolic dimension, for which JAX has no public type."""


def is_symbolic(*sizes: Any) -> bool:
    """Whether any of the sizes is symbolic."""
    return any(is_symbolic_dim(size) for size in sizes)


def num_frames(config: EncoderConfig, num_samples: Any) -> Any:
    """`config.num_frames(num_samples)`, also for a symbolic number of samples, which must be enough for one frame."""
    if not is_symbolic(num_samples):
        return config.num_frames(num_samples)
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        num_samples = (num_samples - kernel) // stride + 1
    return num_samples


def is_outside(size: Any, lowest: int, highest: int | None = None) -> bool:
    """Whether a size is out of bounds. A symbolic size of which this is not known is taken to be within them."""
    try:
        return bool(size < lowest) or (highest is not None and bool(size > highest))
    except jax.errors.InconclusiveDimensionOperation:
        return False
