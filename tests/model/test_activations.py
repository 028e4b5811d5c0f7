"""The activation functions against their definitions, and against JAX's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf

from spectra_jax.model.activations import gelu, selu

X = np.linspace(-9, 9, 1001)


def test_gelu_is_the_exact_one() -> None:
    with jax.enable_x64(True):
        found = np.asarray(gelu(jnp.asarray(X)))
    np.testing.assert_allclose(found, 0.5 * X * (1 + erf(X / np.sqrt(2))), rtol=0, atol=1e-14)
    assert np.abs(found - np.asarray(jax.nn.gelu(X))).max() > 1e-4, "the tanh approximation would pass too"


def test_gelu_has_the_derivative_of_jax() -> None:
    with jax.enable_x64(True):
        ours, theirs = (
            jax.vmap(jax.grad(function))(jnp.asarray(X))
            for function in (gelu, lambda x: jax.nn.gelu(x, approximate=False))
        )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)


def test_selu_is_that_of_jax() -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        np.testing.assert_allclose(selu(x), jax.nn.selu(x), rtol=0, atol=1e-14)
