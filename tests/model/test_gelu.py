"""The derivative of GELU inside `shard_map`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from scipy import special

from spectra_jax.model.activations import gelu


def test_the_gelus_derivative_is_its_own_inside_shard_map() -> None:
    """There JAX follows which values differ between devices, and its own rule for `erf` has failed."""
    with jax.enable_x64(True):
        x = jnp.linspace(-9.0, 9.0, 361)
        mesh = Mesh(np.array(jax.devices()[:1]), ("clips",))

        def derivative(x: jax.Array) -> jax.Array:
            return jax.grad(lambda x: jnp.sum(gelu(x)))(x)

        mapped = jax.shard_map(derivative, mesh=mesh, in_specs=P("clips"), out_specs=P("clips"))
        found = np.asarray(mapped(x))
    values = np.asarray(x)
    wanted = special.ndtr(values) + values * np.exp(-(values**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)
