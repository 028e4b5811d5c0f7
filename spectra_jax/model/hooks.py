"""Named stages of a forward pass, and hooks that see them."""

from __future__ import annotations

from collections.abc import Callable

from jax import Array

StageHook = Callable[[str, Array], Array]
"""Called with the name and the value of each stage while it is computed. The forward pass continues with the value
that it returns."""


def no_hook(name: str, value: Array) -> Array:
    """The default hook: it returns each value as it is."""
    del name
    return value
