"""The forward pass as a pure function: its precisions, its lengths, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spectra_jax
from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import load_model
from spectra_jax.model.functional import split
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.platform import for_platform
from spectra_jax.model.precision import Precision
from tests.conftest import GOLDEN, golden_windows

ROOT = Path(__file__).parents[2]
TINY = GOLDEN / "tiny"


def windows(seeds: range) -> np.ndarray:
    return golden_windows([{"seed": seed, "samples": 20000} for seed in seeds])


# Root mean square error over root mean square of the encoder's output, outside which it would be another precision.
# Measured: float32 and tf32 (which is float32 on a CPU) 6e-7, bfloat16 6e-3, int8 1.5e-2.
@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [
        ("float32", 1e-8, 1e-5),
        ("tf32", 1e-8, 1e-5),
        ("bfloat16", 5e-4, 3e-2),
        ("float16", 1e-4, 3e-3),
        ("int8", 5e-4, 3e-2),
    ],
)
def test_every_precision_computes_to_its_name(
    precision: str, least: float, most: float, tiny_checkpoint: Checkpoint
) -> None:
    x = windows(range(7, 9))
    reduced = spectra_jax.load(TINY, precision)
    found = np.asarray(jax.jit(lambda x: reduced.encoder(x))(x), np.float64)
    with jax.enable_x64(True):
        encoder = load_model(tiny_checkpoint, "float64").encoder
        exact = np.asarray(jax.jit(lambda x: encoder(x))(x))
    error = np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))
    assert least < error < most
    kernel = reduced.encoder.feature_projection.linear.kernel[...]
    assert kernel.dtype == {"float16": "float16", "bfloat16": "bfloat16", "int8": "bfloat16"}.get(precision, "float32")
    head = reduced.aasist.head
    assert isinstance(head, KANLinear) and head.spline_weight[...].dtype == np.float32


@pytest.mark.usefixtures("annotations_unchecked")
def test_lengths_the_network_does_not_take() -> None:
    forward, params, rest = split(spectra_jax.load(TINY))
    for samples, reason in [
        (1039, "1039 samples give 2 frames, but the network takes 3 to max_frames = 400, that is 1040 to 128399"),
        (128400, "128400 samples give 401 frames"),
    ]:
        with pytest.raises(ValueError, match=reason):
            jax.eval_shape(forward, params, rest, jax.ShapeDtypeStruct((1, samples), np.float32))
    for samples in (1040, 30000, 128399):
        assert jax.eval_shape(forward, params, rest, jax.ShapeDtypeStruct((3, samples), np.float32)).shape == (3, 2)
    with pytest.raises(ValueError, match=r"expected windows of shape \(batch, samples\), found \(64600,\)"):
        jax.eval_shape(forward, params, rest, jax.ShapeDtypeStruct((64600,), np.float32))


def test_float64_without_x64_is_refused() -> None:
    with pytest.raises(ValueError, match="x64 mode"):
        spectra_jax.load("demo", precision="float64")


def test_the_forward_pass_is_pure() -> None:
    """No effects, no device in it, and nothing left behind: the same numbers the second time."""
    forward, params, rest = split(spectra_jax.load(TINY))
    shape = jax.ShapeDtypeStruct((1, 64600), np.float32)
    jaxpr = jax.make_jaxpr(forward)(params, rest, shape)
    assert jaxpr.effects == set()
    before = [np.asarray(leaf) for leaf in jax.tree.leaves((params, rest))]
    compiled = jax.jit(forward)
    first, second = (np.asarray(compiled(params, rest, windows(range(1)))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for leaf, earlier in zip(jax.tree.leaves((params, rest)), before, strict=True):
        np.testing.assert_array_equal(leaf, earlier)


def test_gradients_of_a_bfloat16_product_are_products_of_bfloat16_operands() -> None:
    rng = np.random.default_rng(0)
    shapes = (2, 5, 16), (16, 8), (8,), (2, 5, 8)
    x, weight, bias, cotangent = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)

    def gradients(precision: str) -> Any:
        linear = Precision.of(precision).linear
        return jax.jit(jax.value_and_grad(lambda x, weight: jnp.sum(cotangent * linear(x, weight, bias)), (0, 1)))

    with for_platform("cpu"):
        text = gradients("bfloat16").lower(x, weight).as_text()
        products = re.findall(r"stablehlo\.dot_general.* : \((.*)\) ->", text)
        assert len(products) == 3  # forward, and one for each gradient
        assert all(re.fullmatch(r"tensor<\w+xbf16>, tensor<\w+xbf16>", operands) for operands in products), products
        for exact, rounded in zip(gradients("float32")(x, weight)[1], gradients("bfloat16")(x, weight)[1], strict=True):
            assert rounded.dtype == exact.dtype
            # An operand and the cotangent are rounded to 8 bits, each by 2^-9 of itself at most.
            assert jnp.linalg.norm(rounded - exact) < 2 * 2**-9 * jnp.linalg.norm(exact)


def test_gradients_of_a_bfloat16_product_do_not_depend_on_the_mesh() -> None:
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.programs.bfloat16_gradients_over_a_mesh"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    alone = found.pop("one device")
    assert list(found) == ["Explicit", "Auto", "shard_map", "shard_map, frozen weight"]
    for gradients in found.values():
        for there, here in zip(gradients, alone, strict=False):
            # The sums are in float32, in another order.
            np.testing.assert_allclose(there, here, rtol=0, atol=1e-5)
