"""Low-rank adapters: pure functions, and runs that train them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spectra_jax.errors import ConfigError
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training import BEST, EvaluationEvent, Run, lora
from spectra_jax.training.lora import LoraConfig
from spectra_jax.training.step import Leaves, Network
from tests.training.runs import config, weights_of, without_speed
from tests.training.steps import WINDOWS

ADAPTERS = LoraConfig(rank=2, alpha=6.0)
SETTINGS: dict[str, Any] = {"lora": {"rank": 2}, "dropout": 0.0}


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(config("pool+linear").model, "float32")


@pytest.fixture(scope="module")
def leaves(network: Network) -> Leaves:
    return network.leaves(SpectraAASIST3(config("pool+linear").model, rngs=nnx.Rngs(params=0)))


def test_adapters_are_of_the_targets(leaves: Leaves) -> None:
    adapters = lora.init(leaves, ADAPTERS, jax.random.key(0))
    prefixes = [f"encoder.layers.{layer}.attention.{name}" for layer in (0, 1) for name in ("query", "value")]
    assert set(adapters) == {f"{prefix}.{name}" for prefix in prefixes for name in ("lora_a", "lora_b")}
    assert adapters[f"{prefixes[0]}.lora_a"].shape == (16, 2) and adapters[f"{prefixes[0]}.lora_b"].shape == (2, 16)
    later = lora.init(leaves, ADAPTERS, jax.random.key(0), first_layer=1)
    assert set(later) == {path for path in adapters if ".layers.1." in path}


def test_new_adapters_change_no_bit_of_the_output(network: Network, leaves: Leaves) -> None:
    adapters = lora.init(leaves, ADAPTERS, jax.random.key(0))

    @jax.jit
    def forward(leaves: Leaves) -> jax.Array:
        return network.model(lora.merge(leaves, ADAPTERS))(WINDOWS[:2])

    np.testing.assert_array_equal(forward({**leaves, **adapters}), forward(leaves))


def test_merged_kernels(leaves: Leaves) -> None:
    adapters = {
        path: leaf + jnp.ones_like(leaf) for path, leaf in lora.init(leaves, ADAPTERS, jax.random.key(0)).items()
    }
    merged = lora.merge({**leaves, **adapters}, ADAPTERS)
    assert set(merged) == set(leaves)
    prefix = "encoder.layers.1.attention.value"
    product = np.asarray(adapters[f"{prefix}.lora_a"]) @ np.asarray(adapters[f"{prefix}.lora_b"])
    np.testing.assert_allclose(merged[f"{prefix}.kernel"], leaves[f"{prefix}.kernel"] + 3 * product, rtol=1e-5)
    changed = {path for path in leaves if not np.array_equal(merged[path], leaves[path])}
    assert changed == {path.replace("lora_a", "kernel") for path in adapters if path.endswith("lora_a")}


def test_a_run_trains_adapters_and_exports_an_ordinary_network(manifest: Path, tmp_path: Path) -> None:
    """Its `best/` has no adapters, other attention kernels, and the same other weights of the encoder."""
    settings = config("pool+linear", **SETTINGS)
    run = Run(manifest, tmp_path / "run", settings)
    shapes = Network(settings.model, "float32").shapes
    back_end = sum(
        int(np.prod(shape.shape))
        for path, shape in shapes.items()
        if not path.startswith("encoder.") and path.rsplit(".", 1)[-1] not in ("mean", "var", "num_batches")
    )
    assert run.num_trained == back_end + 2 * 2 * (2 * 16 * 2)
    events = list(run)
    initial = Network(settings.model, "float32").leaves(SpectraAASIST3(settings.model, rngs=nnx.Rngs(params=0)))
    trained = weights_of(tmp_path / "run" / BEST)
    assert set(trained) == set(initial)
    changed = {
        path for path in trained if path.startswith("encoder.") and not np.array_equal(trained[path], initial[path])
    }
    assert changed == {f"encoder.layers.{n}.attention.{name}.kernel" for n in (0, 1) for name in ("query", "value")}

    interrupted = iter(Run(manifest, tmp_path / "resumed", settings))
    assert any(isinstance(event, EvaluationEvent) for event in interrupted)
    del interrupted
    resumed = Run(manifest, tmp_path / "resumed", settings)
    assert resumed.steps_done == 2
    assert without_speed(list(resumed)) == without_speed([event for event in events if event.step > 2])


@pytest.mark.parametrize(
    "value",
    [{"rank": 0}, {"alpha": 0}, {"targets": []}, {"targets": ["query", "query"]}, {"targets": ["norm"]}, 8],
    ids=str,
)
def test_adapters_that_cannot_be_built_are_an_error(value: Any) -> None:
    with pytest.raises(ConfigError):
        config(lora=value)


def test_a_frozen_encoder_has_no_adapters() -> None:
    with pytest.raises(ConfigError, match=r"training\.freeze.*lora"):
        config(lora={}, freeze="encoder")
