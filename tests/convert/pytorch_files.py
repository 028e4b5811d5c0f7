"""PyTorch checkpoints for the tests of this folder: written, changed and compared."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import save_file

from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.convert import convert
from spectra_jax.convert.table import WEIGHT_NORM, WEIGHT_NORM_OLD
from spectra_jax.errors import CheckpointError
from spectra_jax.model.config import SpectraConfig
from tests.conftest import GOLDEN

TINY = GOLDEN / "tiny"


TINY_CONFIG = read_config(TINY / "config.json")


SETTINGS = {"tiny": json.loads((TINY / "config.json").read_text()), "full": {}}


Tensors = dict[str, np.ndarray]


def save(folder: Path, tensors: Tensors, config: dict[str, Any] | str = SETTINGS["tiny"]) -> Path:
    """A directory with weights and configuration, as published."""
    folder.mkdir(exist_ok=True)
    contiguous = {
        name: np.array(array, order="C") for name, array in tensors.items()
    }  # safetensors writes contiguous arrays only
    save_file(contiguous, folder / "model.safetensors")
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def in_old_style(tensors: Tensors) -> Tensors:
    renamed = dict(zip(WEIGHT_NORM, WEIGHT_NORM_OLD, strict=True))
    return {renamed.get(name, name): array for name, array in tensors.items()}


def in_files(folder: Path, tensors: Tensors) -> Path:
    """A checkpoint in three files with their index, as `transformers` saves it."""
    save(folder, tensors)
    (folder / "model.safetensors").unlink()
    shard_of: dict[str, str] = {}
    for part in range(3):
        names, shard = sorted(tensors)[part::3], f"model-{part + 1:05}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names}, folder / shard)
        shard_of |= dict.fromkeys(names, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    return folder


def assert_same(found: Tensors, wanted: Tensors) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def assert_only_the_pair_was_rounded(found: Tensors, wanted: Tensors) -> None:
    """All tensors have the same bits, apart from the weight norm: its product is within one ulp of float32."""
    assert_same(*({name: a for name, a in tensors.items() if name not in WEIGHT_NORM} for tensors in (found, wanted)))
    assert found.keys() == wanted.keys()
    for name in WEIGHT_NORM:
        assert (found[name].dtype, found[name].shape) == (np.dtype(np.float32), wanted[name].shape)
    kernel = folded(wanted)
    assert np.all(np.abs(folded(found) - kernel) <= np.spacing(np.abs(kernel).astype(np.float32)))


def folded(tensors: Tensors) -> np.ndarray:
    """The kernel of the positional convolution, from the definition of weight norm, for each kernel position."""
    g, v = (tensors[name].astype(np.float64) for name in WEIGHT_NORM)
    return np.stack([g[0, 0, i] * (v[..., i] / np.linalg.norm(v[..., i])) for i in range(g.size)], axis=-1)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Small networks of every form that the configuration allows, also with sizes that have no common factor."""
    layers = draw(st.integers(1, 3))
    hidden = draw(st.sampled_from([1, 2, 3])) * (groups := draw(st.sampled_from([1, 2, 5])))
    sizes = st.lists(st.integers(1, 7), min_size=layers, max_size=layers)
    encoder = {
        "hidden_size": hidden,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": draw(st.sampled_from([heads for heads in (1, 2, 3) if hidden % heads == 0])),
        "intermediate_size": draw(st.integers(1, 9)),
        "conv_bias": draw(st.booleans()),
        "conv_dim": draw(sizes),
        "conv_kernel": draw(sizes),
        "conv_stride": draw(sizes),
        "num_conv_pos_embeddings": draw(st.integers(1, 6)),
        "num_conv_pos_embedding_groups": groups,
    }
    channels = [1, *draw(st.lists(st.sampled_from([1, 2, 3, 7]), min_size=1, max_size=4))]
    return {
        "num_samples": SpectraConfig().encoder.from_dict(encoder).num_samples(3),
        "encoder": encoder,
        "bridge_dim": draw(st.integers(3, 9)),
        "residual_channels": [list(pair) for pair in pairwise(channels)],
        "gat_dims": draw(st.lists(st.integers(1, 7), min_size=2, max_size=2)),
        "max_frames": draw(st.integers(3, 9)),
        "kan": {
            "grid_size": draw(st.integers(1, 6)),
            "spline_order": draw(st.integers(1, 4)),
            "grid_range": draw(st.sampled_from([[-1.0, 1.0], [-2.0, 1.0], [0.1, 0.7]])),
        },
    }


Format = Literal["native", "torch"]
FORMATS: tuple[tuple[str, Format], ...] = (("native", "native"), ("torch", "torch"), ("torch.safetensors", "torch"))


def refused(source: Path, formats: tuple[tuple[str, Format], ...] = FORMATS) -> list[str]:
    """The summary and the problems of the error on converting a source, which must not leave any file."""
    before = sorted(source.parent.rglob("*"))
    found = []
    for name, to in formats:
        with pytest.raises(CheckpointError) as raised:
            convert(source, source.parent / name, to)
        assert str(raised.value).startswith(f"{source}: ")
        for problem in raised.value.problems[:20]:
            assert problem in str(raised.value)
        found.append(raised.value)
    assert sorted(source.parent.rglob("*")) == before
    assert len({str(error) for error in found}) == 1
    return [str(found[0]).splitlines()[0].removeprefix(f"{source}: "), *found[0].problems]


SLOPE, LINEAR, CONV = (
    "aasist.out_layer.base_activation.weight",
    "bridge.mlp.0.weight",
    "aasist.enc.enc.0.0.conv1.weight",
)


COUNT, GRID = "aasist.enc.first_bn.num_batches_tracked", "aasist.out_layer.grid"


LARGEST = np.iinfo(np.int32).max
