"""The profile by kinds of operations: each operation counts once, in the right row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import Array, lax

from benchmarks.speed.operations import profile


@jax.jit
def run_layer(x: Array) -> Array:
    return x @ x


def in_a_layer(x: Array) -> Array:
    return run_layer(x)


def outside_of_layers(x: Array) -> Array:
    return x @ x


def of_8_bits(x: Array) -> Array:
    integers = x.astype(jnp.int8)
    return lax.dot_general(integers, integers, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32)


def in_a_loop(x: Array) -> Array:
    return lax.fori_loop(0, 5, lambda _, y: jnp.tanh(y @ x), x)


def profiled(function: Callable[[Array], Array]) -> dict[str, Any]:
    x = jnp.ones((64, 64))
    compiled = jax.jit(function).lower(x).compile()
    parts = profile(lambda: jax.block_until_ready(compiled(x)), compiled.as_text() or "", rounds=2)
    assert all(part["seconds"] > 0 for part in parts)
    return {part["kind"]: part["count"] for part in parts}


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (in_a_layer, "transformer layers: other products"),
        (outside_of_layers, "the rest: other products"),
        (of_8_bits, "the rest: products of 8-bit integers"),
    ],
)
def test_a_product_is_counted_in_its_row(function: Callable[[Array], Array], kind: str) -> None:
    assert profiled(function)[kind] == 1


def test_a_loop_counts_by_the_operations_inside() -> None:
    assert profiled(in_a_loop)["the rest: other products"] == 5


def test_a_profile_without_the_program_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no operation"):
        profile(lambda: None, "", rounds=1)
