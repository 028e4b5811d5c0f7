"""Simplified functions: the same values, from fewer kinds of operations."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax

from spectra_jax.exporting.simplify import simplify
from spectra_jax.model.activations import gelu

WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6, 6)), jnp.float32)


def over_weights(x: Array) -> Array:
    return jnp.sum(lax.map(lambda weight: jnp.tanh(x @ weight), WEIGHTS), axis=0)


def over_rows(x: Array) -> Array:
    return lax.map(jnp.cumsum, x, batch_size=3)


def padded(x: Array) -> Array:
    return lax.pad(x, jnp.float32(2), ((0, 0, 0), (1, 2, 0)))


def cropped_and_padded(x: Array) -> Array:
    return lax.pad(x, jnp.float32(2), ((-2, 1, 0), (3, -1, 0)))


def pooled(x: Array) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 4), (2, 4), "VALID")


def checkpointed(x: Array) -> Array:
    return jax.checkpoint(lambda x: lax.optimization_barrier(lax.stop_gradient(x)) * 2)(x)


FUNCTIONS: dict[str, tuple[Callable[[Array], Array], set[str]]] = {
    "loop over weights": (over_weights, {"scan"}),
    "loop over rows": (over_rows, {"scan"}),
    "padding": (padded, {"pad"}),
    "negative padding": (cropped_and_padded, {"pad"}),
    "pooling": (pooled, {"reduce_window_max"}),
    "powers": (lambda x: x**1 + x**4 + x**7, {"integer_pow"}),
    "function with a derivative of its own": (gelu, {"custom_jvp_call"}),
    "checkpoint": (checkpointed, {"remat2", "checkpoint", "optimization_barrier", "stop_gradient"}),
    "jitted function": (jax.jit(jnp.sin), {"jit", "pjit"}),
}


def primitives(function: Callable[[Array], Array], x: Array) -> set[str]:
    return {equation.primitive.name for equation in jax.make_jaxpr(function)(x).eqns}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_values_are_the_same(name: str) -> None:
    function, removed = FUNCTIONS[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 6)), jnp.float32)
    np.testing.assert_allclose(simplify(function)(x), function(x), rtol=2e-6, atol=2e-6)
    assert not primitives(simplify(function), x) & (removed | {"jit", "pjit"})


def test_a_loop_whose_steps_depend_on_each_other_remains() -> None:
    x = jnp.arange(6, dtype=jnp.float32)

    def sums(x: Array) -> Array:
        return lax.scan(lambda total, value: (total + value, total), jnp.float32(0), x)[1]

    assert "scan" in primitives(simplify(sums), x)
    np.testing.assert_array_equal(simplify(sums)(x), [0, 0, 1, 3, 6, 10])


def test_what_no_rule_covers_remains() -> None:
    x = jnp.ones((6, 6), jnp.float32)

    def overlapping(x: Array) -> Array:
        return lax.reduce_window(x, -jnp.inf, lax.max, (3, 3), (1, 1), "VALID")

    def inner_padding(x: Array) -> Array:
        return lax.pad(x, jnp.float32(0), ((0, 0, 1), (0, 0, 0)))

    assert primitives(simplify(overlapping), x) == {"reduce_window_max"}
    assert primitives(simplify(inner_padding), x) == {"pad"}
    assert primitives(simplify(lambda x: x**-2), x) == {"integer_pow"}
