"""The network against the PyTorch oracle, computed in the test: other sizes, lengths and seeds, and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from spectra_jax.checkpoints.checkpoint import weight_shapes
from spectra_jax.checkpoints.load import load_model
from spectra_jax.convert import expand, read_pytorch
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import SpectraAASIST3, stages
from tests.golden import recipe
from tests.tolerances import LOGITS

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
pytest.importorskip("transformers", reason="needs the extra `parity` (torch, transformers)")

from tests.oracle import spectra_torch  # noqa: E402

pytestmark = pytest.mark.parity

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "conv_dim": [8, 12, 16],
    "conv_kernel": [10, 8, 4],
    "conv_stride": [5, 8, 4],
    "num_conv_pos_embeddings": 15,
    "num_conv_pos_embedding_groups": 4,
}
# name -> (configuration, samples of the windows)
NETWORKS = {
    "odd sizes": (
        {
            "encoder": ENCODER,
            "num_samples": 10007,
            "bridge_dim": 31,
            "residual_channels": [[1, 8], [8, 8], [8, 20]],
            "gat_dims": [10, 6],
            "max_frames": 70,
        },
        10007,
    ),
    "another length than the window": (
        {
            "encoder": ENCODER,
            "num_samples": 10007,
            "bridge_dim": 24,
            "residual_channels": [[1, 64]],
            "gat_dims": [8, 8],
            "max_frames": 70,
            "pool_ratios": [0.3, 0.7, 0.9, 0.5],
            "temperatures": [1.0, 3.0, 20.0, 7.0],
        },
        7001,
    ),
    "fewest nodes": (
        {
            "encoder": ENCODER,
            "num_samples": 700,
            "bridge_dim": 3,
            "residual_channels": [[1, 2], [2, 64]],
            "gat_dims": [5, 4],
            "max_frames": 5,
        },
        700,
    ),
    # 5 intervals: the spacing of the knots had to be rounded to float32, and the reference runs on the rounded ones
    "knots that are not exact": (
        {
            "encoder": ENCODER | {"conv_bias": False},
            "num_samples": 9000,
            "bridge_dim": 21,
            "residual_channels": [[1, 64]],
            "gat_dims": [7, 5],
            "max_frames": 70,
            "kan": {"grid_size": 5, "spline_order": 3, "grid_range": [-1.0, 0.9]},
        },
        9000,
    ),
}


def build(
    tmp_path: Path, config: dict[str, Any], seed: int, *, hidden_size: int = 32
) -> tuple[SpectraAASIST3, spectra_torch.SpectraAASIST3]:
    """The same seeded network in Flax, through a checkpoint file, and in PyTorch. Both in float64."""
    tensors = recipe.seeded_checkpoint(spectra_torch.checkpoint_shapes(config), seed, hidden_size)
    spline = SpectraConfig.from_dict(config).kan
    if spline != SpectraConfig().kan:
        from spectra_jax.model.kan import knots

        tensors |= {name: np.tile(knots(spline), (len(t), 1)) for name, t in tensors.items() if name.endswith(".grid")}
    save_file(tensors, tmp_path / "model.safetensors")
    model = load_model(read_pytorch(tmp_path / "model.safetensors", SpectraConfig.from_dict(config)), "float64")
    return model, spectra_torch.load_oracle(config, tensors, torch.float64)


def windows(samples: int, seeds: range) -> np.ndarray:
    return np.stack([recipe.preprocess(recipe.waveform(seed, samples), samples) for seed in seeds])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_stage(name: str, tmp_path: Path) -> None:
    config, samples = NETWORKS[name]
    x = windows(samples, range(3))
    with jax.enable_x64(True):
        model, oracle = build(tmp_path, config, seed=5)
        found = {name: np.asarray(value) for name, value in stages(model, x).items()}
    with torch.no_grad():
        reference = oracle.stages(torch.from_numpy(x).double())
    for stage, value in reference.items():
        np.testing.assert_allclose(found[stage], value.numpy(), rtol=0, atol=LOGITS["float64"], err_msg=stage)


def test_batch_statistics_in_training(tmp_path: Path) -> None:
    """Training mode without dropout: batch norms use the batch, and update the stored statistics as PyTorch does."""
    config, samples = NETWORKS["odd sizes"]
    x = windows(samples, range(4))
    with jax.enable_x64(True):
        model, oracle = build(tmp_path, config, seed=6)
        model.set_attributes(use_running_average=False)

        @jax.jit
        def step(state: nnx.State[Any, Any], x: jax.Array) -> tuple[jax.Array, nnx.State[Any, Any]]:
            network = nnx.merge(graph, state)
            return network(x), nnx.state(network)

        graph, state = nnx.split(model)
        logits, state = step(state, x)
        updated = {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}
    oracle.train()
    for module in oracle.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        expected = oracle(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(np.asarray(logits), expected, rtol=0, atol=LOGITS["float64"])
    statistics = oracle.state_dict()
    entries = [
        entry
        for entry in expand(model.config, weight_shapes(model.config))
        if entry.source.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    # 5 in the 3 residual blocks, 2 around them, 1 in the attention map, 2 graph attentions, 8 heterogeneous layers
    assert len(entries) == 3 * 18
    for entry in entries:
        np.testing.assert_allclose(
            updated[entry.target], statistics[entry.source], rtol=0, atol=1e-9, err_msg=entry.source
        )


def test_dropout_acts_in_training_only(tmp_path: Path) -> None:
    config, samples = NETWORKS["odd sizes"]
    x = windows(samples, range(2))
    with jax.enable_x64(True):
        model, _ = build(tmp_path, config, seed=7)
        graph, state = nnx.split(model)
        rates = sorted(module.rate for _, module in nnx.iter_modules(model) if isinstance(module, nnx.Dropout))
        # bridge; two graph attentions; two pools; of each branch two layers, two pools and the branch itself; the head
        assert rates == sorted([0.1, 0.2, 0.2, 0.3, 0.3, 0.5] + 4 * [0.2, 0.2, 0.3, 0.3, 0.2])

        @jax.jit
        def train(state: nnx.State[Any, Any], key: jax.Array) -> jax.Array:
            network = nnx.merge(graph, state)
            network.set_attributes(deterministic=False)
            return network(x, rngs=nnx.Rngs(dropout=key))

        still = np.asarray(jax.jit(lambda state: nnx.merge(graph, state)(x))(state))
        first, again, other = (np.asarray(train(state, jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.abs(first - other) > 1e-6)
    assert np.all(np.abs(first - still) > 1e-6)
