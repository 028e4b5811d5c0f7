"""The choice of a platform's code while tracing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spectra_jax
from spectra_jax.model.encoder import has_cudnn_attention
from spectra_jax.model.platform import TargetPlatform, for_platform, platform_dependent, target_platform
from tests.conftest import GOLDEN


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
