"""The annotated shapes are checked in these tests: see the import hook in `tests/conftest.py`."""

from __future__ import annotations

import jax.numpy as jnp
import jaxtyping
import pytest

from spectra_jax.model.graph import smallest_rank_gap
from spectra_jax.model.precision import Precision


def test_a_wrong_dtype_is_an_error() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="scores"):
        smallest_rank_gap(jnp.zeros((2, 5), jnp.int32), 0.5)


def test_a_wrong_number_of_axes_is_an_error() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="scores"):
        smallest_rank_gap(jnp.zeros(5), 0.5)


def test_axes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="weight"):
        Precision.of("float32").dot(jnp.zeros((2, 3)), jnp.zeros((4, 5)))


@pytest.mark.usefixtures("annotations_unchecked")
def test_checking_can_be_switched_off() -> None:
    with pytest.raises(TypeError, match="dot_general"):
        Precision.of("float32").dot(jnp.zeros((2, 3)), jnp.zeros((4, 5)))
