"""The choice of a platform's code while tracing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import spectra_jax
from spectra_jax.model import kan
from spectra_jax.model.aasist import KANAASIST
from spectra_jax.model.config import KANConfig, SpectraConfig
from spectra_jax.model.encoder import SpeechEncoder, has_cudnn_attention
from spectra_jax.model.functional import split
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.platform import TargetPlatform, for_platform, on_devices, platform_dependent, target_platform
from spectra_jax.model.precision import Precision
from tests.conftest import GOLDEN
from tests.model.encoder.small import noise, small_config

pytestmark = pytest.mark.usefixtures("unoptimized")


@jax.jit
def chosen(x: jax.Array) -> jax.Array:
    return platform_dependent(x, cpu=lambda x: x + 1, default=lambda x: x + 2)


@pytest.mark.parametrize(("platform", "added"), [("cpu", 1), ("cuda", 2), ("rocm", 2), ("tpu", 2), ("any", 1)])
def test_a_single_platform_is_chosen_while_tracing(platform: TargetPlatform, added: int) -> None:
    x = jnp.zeros(())
    assert chosen(x) == 1, "this test runs on a CPU"
    with for_platform(platform):
        # Traced again: JAX does not take the trace from outside the context.
        assert chosen(x) == added
        assert ("platform_index" in str(jax.make_jaxpr(chosen)(x))) == (platform == "any")
    assert chosen(x) == 1
    assert target_platform() is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_network_for_one_platform_contains_one_branch(precision: str) -> None:
    encoder = spectra_jax.load(GOLDEN / "tiny", precision).encoder
    waveform = jax.ShapeDtypeStruct((1, 5000), np.float32)
    assert "platform_index" in str(jax.make_jaxpr(lambda x: encoder(x))(waveform))
    with for_platform("cpu"):
        assert "platform_index" not in str(jax.make_jaxpr(lambda x: encoder(x))(waveform))


def test_a_portable_program_has_no_cudnn_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    device = type("Device", (), {"compute_capability": "9.0"})
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert has_cudnn_attention()
    with for_platform("cuda"):
        assert not has_cudnn_attention()


def run_on_a_cpu(model: nnx.Module, x: np.ndarray, platform: str) -> Any:
    """The output of the code for a platform's devices."""
    forward, params, rest = split(model)
    # A function of its own, whose traces are not cached. The options make compiling quick.
    program = jax.jit(lambda x: forward(params, rest, x))
    with on_devices(platform):
        return program.lower(x).compile({"xla_backend_optimization_level": "0"})(x)


@pytest.mark.parametrize(("size", "samples"), [(6, 30), (7, 300), (95, 99)])
def test_convolutions_for_gpus_compute_the_same(size: int, samples: int) -> None:
    """From one frame on, and with fewer frames than the positional convolution's kernel has taps."""
    config = small_config(num_hidden_layers=1, conv_kernel=(6, 7), num_conv_pos_embeddings=size)
    with jax.enable_x64(True):
        encoder = SpeechEncoder(config, precision="float64", rngs=nnx.Rngs(0))
        found, expected = (run_on_a_cpu(encoder, noise(2, samples), platform) for platform in ("gpu", "cpu"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert not np.array_equal(found, expected), "both ran the same code"


@pytest.mark.parametrize("rows", [60, 64, 200])
def test_chunks_for_gpus_compute_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kan, "CHUNK_ROWS", 32)
    monkeypatch.setattr(kan, "DEVICE_CHUNK_ROWS", 64)
    with jax.enable_x64(True):
        layer = KANLinear(5, 4, KANConfig(), precision=Precision.of("float64"), rngs=nnx.Rngs(0))
        x = noise(rows, 5).astype(np.float64)
        found, expected = (run_on_a_cpu(layer, x, platform) for platform in ("gpu", "cpu"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_branches_for_gpus_compute_the_same() -> None:
    config = SpectraConfig.from_dict(
        {"back_end": "aasist", "bridge_dim": 12, "residual_channels": [[1, 4], [4, 4]], "gat_dims": [6, 4]}
    )
    with jax.enable_x64(True):
        back_end = KANAASIST(config, precision="float64", rngs=nnx.Rngs(params=0))
        x = noise(2, 60 * 12).reshape(2, 60, 12).astype(np.float64)
        found, expected = (run_on_a_cpu(back_end, x, platform) for platform in ("gpu", "cpu"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_bias_is_not_rounded_for_gpus(precision: str) -> None:
    policy = Precision.of(precision)
    bias = jnp.array([1 + 2**-12, 1e-9], jnp.float32)
    x, weight = jnp.zeros((4, 3), jnp.float32), jnp.ones((3, 2), jnp.float32)
    with on_devices("gpu"):
        np.testing.assert_array_equal(policy.linear(x, weight, bias), np.broadcast_to(bias, (4, 2)))
        gradient = jax.grad(lambda bias: policy.linear(x, weight, bias).sum() * jnp.float32(1 + 2**-12))(bias)
    np.testing.assert_allclose(gradient, 4 * (1 + 2**-12), rtol=1e-6)
