"""The grouped convolution on CPUs: its derivatives, which are written out, and its form for inference."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from spectra_jax.model.conv import Conv, _grouped_conv
from spectra_jax.model.fold import _cut_kernel_by_groups
from spectra_jax.model.precision import PRECISIONS, PrecisionName

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


@pytest.mark.parametrize("size", [5, 7, 8])
def test_a_folded_grouped_convolution_is_that_of_bfloat16_operands(size: int) -> None:
    conv = Conv(32, 64, (size,), padding=((3, 4),), groups=GROUPS, precision=PRECISIONS["bfloat16"], rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, 19, 32))
    before = conv(x)
    _cut_kernel_by_groups(conv)
    after = conv(x)
    narrow = [value.astype(jnp.bfloat16).astype(jnp.float32) for value in (x, conv.kernel[...])]
    expected = PRECISIONS["float32"].conv(*narrow, window_strides=(1,), padding=((3, 4),), feature_group_count=GROUPS)
    assert conv.bias is not None
    expected += conv.bias[...]
    # Products of 16-bit numbers are exact in float32; sums over 64 of them differ by their order.
    np.testing.assert_allclose(after, expected, rtol=0, atol=2e-6)
    # Unfolded, a CPU computes it in float32.
    assert np.abs(after - before).max() > 1e-4


@pytest.mark.parametrize(
    ("precision", "groups", "stride"),
    [("float32", GROUPS, 1), ("float64", GROUPS, 1), ("bfloat16", 1, 1), ("int8", GROUPS, 2)],
)
def test_other_convolutions_are_not_folded(precision: PrecisionName, groups: int, stride: int) -> None:
    with jax.enable_x64(precision == "float64"):
        policy, rngs = PRECISIONS[precision], nnx.Rngs(0)
        conv = Conv(32, 64, (8,), strides=(stride,), groups=groups, precision=policy, rngs=rngs)
        _cut_kernel_by_groups(conv)
    assert conv.group_kernels is None
