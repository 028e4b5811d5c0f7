"""The name table: every tensor and every weight once, and layouts by what the layers compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from safetensors.numpy import load_file

from spectra_jax.checkpoints.checkpoint import Checkpoint, weight_shapes
from spectra_jax.checkpoints.load import load_model
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.convert import expand
from spectra_jax.convert.table import POSITIONAL, TABLES, WEIGHT_NORM, expand_row
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import SpectraAASIST3
from tests.convert.pytorch_files import (
    SETTINGS,
    TINY,
    TINY_CONFIG,
    Tensors,
    configs,
    save,
)
from tests.golden import recipe


def checkpoint_names(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The tensors that set weights: without the grids, and the two of the weight norm as one."""
    names = {name: shape for name, shape in shapes.items() if not name.endswith(".grid")}
    names.pop(WEIGHT_NORM[0])
    names[f"{POSITIONAL}.weight"] = names.pop(WEIGHT_NORM[1])
    return names


def check_table(config: SpectraConfig, shapes: dict[str, tuple[int, ...]]) -> None:
    weights = weight_shapes(config)
    entries = expand(config, weights)
    sources, targets = ([getattr(entry, end) for entry in entries] for end in ("source", "target"))
    assert len(set(sources)) == len(sources) and len(set(targets)) == len(targets)
    names = checkpoint_names(shapes)
    assert set(sources) == set(names)
    assert set(targets) == set(weights)
    for entry in entries:
        permuted = tuple(names[entry.source][axis] for axis in entry.axes)
        assert permuted == weights[entry.target].shape, entry
        assert tuple(permuted[axis] for axis in entry.inverse_axes) == names[entry.source], entry


def test_the_table_is_the_published_file() -> None:
    check_table(SpectraConfig(), recipe.published_shapes())
    check_table(TINY_CONFIG, recipe.tiny_shapes())


@settings(deadline=None, max_examples=10)
@given(settings_=configs())
def test_the_table_is_any_networks(settings_: dict[str, Any], oracle: ModuleType) -> None:
    check_table(SpectraConfig.from_dict(settings_), oracle.checkpoint_shapes(settings_))


@pytest.mark.parametrize("back_end", TABLES)
def test_every_row_of_a_table_is_used(back_end: str) -> None:
    kinds: list[dict[str, Any]] = [{"mask_time_prob": 0.1}, {"model_type": "wavlm"}, {"adapter_attn_dim": 16}]
    networks = [SpectraConfig.from_dict({"encoder": encoder, "back_end": back_end}) for encoder in kinds]
    weights = set().union(*map(weight_shapes, networks))
    for row in TABLES[back_end]:
        assert any(entry.target in weights for entry in expand_row(row, SpectraConfig())), row


def test_every_value_of_every_tensor_is_loaded_once(tiny: Tensors, tmp_path: Path) -> None:
    # No two values in the file are the same, so that each loaded value identifies its tensor.
    next_label = 1
    owner, values = [""], [0]
    for name, array in tiny.items():
        if name.endswith(".grid") or name == WEIGHT_NORM[0]:
            continue
        tiny[name] = np.arange(next_label, next_label + array.size).astype(array.dtype).reshape(array.shape)
        next_label += array.size
        owner += [name] * array.size
        values += tiny[name].ravel().tolist()
    assert next_label < 2**24  # all of them exact in float32
    v = tiny[WEIGHT_NORM[1]].astype(np.float64)
    tiny[WEIGHT_NORM[0]] = np.linalg.norm(v, axis=(0, 1), keepdims=True).astype(np.float32)  # so that the product is v
    model = load_model(open_checkpoint(save(tmp_path / "labelled", tiny)))

    origins = {}
    for path, weight in loaded_weights(model).items():
        labels = np.rint(weight).astype(int).ravel()
        origins[path] = sorted(labels.tolist())
        assert len({owner[label] for label in labels}) == 1, path
    assert sorted(label for labels in origins.values() for label in labels) == list(range(1, next_label))
    assert {path: owner[labels[0]] for path, labels in origins.items()} == {
        entry.target: entry.source.replace(f"{POSITIONAL}.weight", WEIGHT_NORM[1])
        for entry in expand(TINY_CONFIG, weight_shapes(TINY_CONFIG))
    }


def loaded_weights(model: SpectraAASIST3) -> Tensors:
    leaves = jax.tree_util.tree_leaves_with_path(nnx.state(model))
    keys = (("".join(str(getattr(k, "key", k)) + "." for k in path), leaf) for path, leaf in leaves)
    return {key.removesuffix(".value.").removesuffix("."): np.asarray(leaf) for key, leaf in keys}


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


def as_it_is(x: np.ndarray) -> np.ndarray:
    return x


@pytest.fixture(scope="module")
def networks(tiny_checkpoint: Checkpoint, oracle: ModuleType) -> tuple[SpectraAASIST3, Any]:
    """The tiny network in Flax and in PyTorch, both in float64."""
    with jax.enable_x64(True):
        model = load_model(tiny_checkpoint, "float64")
    return model, oracle.load_oracle(SETTINGS["tiny"], load_file(TINY / "model.safetensors"))


@pytest.mark.parametrize(
    ("ours", "theirs", "shape", "turn"),
    [
        ("bridge.linear1", "bridge.mlp.0", (5, 64), as_it_is),
        ("encoder.feature_extractor.layers.0.conv", "conv_layers.0.conv", (2, 1, 50), channels_last),
        ("encoder.feature_extractor.layers.1.conv", "conv_layers.1.conv", (2, 32, 21), channels_last),
        ("encoder.positional_convolution", "pos_conv_embed", (2, 30, 64), as_it_is),
        ("encoder.feature_projection.norm", "feature_projection.layer_norm", (5, 32), as_it_is),
        ("aasist.residual_encoder.blocks.2.conv1", "enc.enc.2.0.conv1", (2, 16, 6, 5), channels_last),
        ("aasist.residual_encoder.blocks.2.downsample", "enc.enc.2.0.conv_downsample", (2, 16, 6, 5), channels_last),
        ("aasist.attention_map.conv1", "aasist.attention.0", (2, 64, 3, 4), channels_last),
        ("aasist.attention_map.norm", "aasist.attention.2", (2, 128, 3, 4), channels_last),
        ("aasist.head", "aasist.out_layer", (7, 80), as_it_is),
    ],
)
def test_layers_compute_what_pytorch_does(
    ours: str,
    theirs: str,
    shape: tuple[int, ...],
    turn: Callable[[np.ndarray], np.ndarray],
    networks: tuple[SpectraAASIST3, Any],
) -> None:
    import torch

    model, reference = networks
    layer: Any = model
    (module,) = (module for name, module in reference.named_modules() if name.endswith(theirs))
    x = np.random.default_rng(0).standard_normal(shape)
    with torch.no_grad():
        wanted = turn(module(torch.from_numpy(x)).numpy())
    with jax.enable_x64(True):
        for part in ours.split("."):
            layer = layer[int(part)] if part.isdecimal() else getattr(layer, part)
        found = np.asarray(layer(jnp.asarray(turn(x))))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
