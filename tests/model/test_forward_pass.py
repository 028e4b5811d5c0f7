"""The forward pass as a pure function: its precisions, its lengths, and that it leaves nothing behind."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import spectra_jax
from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import load_model
from spectra_jax.model.functional import split
from spectra_jax.model.kan import KANLinear
from tests.conftest import GOLDEN, golden_windows

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
