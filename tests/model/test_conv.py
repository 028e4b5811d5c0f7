"""The derivatives of the grouped convolution on CPUs, which are written out, are those that JAX has for it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from spectra_jax.model.conv import _grouped_conv
from spectra_jax.model.precision import PRECISIONS

GROUPS = 4
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sin(_grouped_conv(x, kernel, GROUPS, PRECISIONS["float32"])))


def plain_loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
    y = PRECISIONS["float32"].conv(x, kernel, window_strides=(1,), padding="VALID", feature_group_count=GROUPS)
    return jnp.sum(jnp.sin(y))


def gradients(loss: Loss) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return jax.grad(loss, (0, 1))


def of_kernel_alone(loss: Loss) -> Callable[..., jax.Array]:
    return jax.grad(loss, 1)


def inside_shard_map(loss: Loss) -> Callable[..., tuple[jax.Array, jax.Array]]:
    mesh = Mesh(np.array(jax.devices()[:1]), ("clips",))
    specs = P("clips"), P()
    return jax.shard_map(
        jax.grad(lambda x, kernel: jax.lax.psum(loss(x, kernel), "clips"), (0, 1)),
        mesh=mesh,
        in_specs=specs,
        out_specs=specs,
    )


def recomputed(loss: Loss) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return jax.grad(jax.checkpoint(loss), (0, 1))


def of_each_clip(loss: Loss) -> Callable[..., tuple[jax.Array, jax.Array]]:
    one = jax.grad(lambda clip, kernel: loss(clip[None], kernel), (0, 1))
    return jax.vmap(one, (0, None))


def of_gradients(loss: Loss) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return lambda *primals: jax.jvp(jax.grad(loss, (0, 1)), primals, primals)[1]


@pytest.mark.parametrize(
    "derivative", [gradients, of_kernel_alone, inside_shard_map, recomputed, of_each_clip, of_gradients]
)
def test_derivatives_of_the_grouped_convolution(derivative: Callable[[Loss], Callable[..., object]]) -> None:
    random = np.random.default_rng(0)
    x, kernel = (jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((3, 20, 16), (5, 4, 8)))
    found, wanted = (jax.jit(derivative(one))(x, kernel) for one in (loss, plain_loss))
    for ours, plain in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=0, atol=2e-6 * float(jnp.abs(plain).max()))
