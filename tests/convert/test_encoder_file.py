"""Reading encoders of transformers: accepted variants, and the message for each fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from spectra_jax.checkpoints.checkpoint import EncoderCheckpoint, encoder_weight_shapes
from spectra_jax.convert.encoder import WEIGHT_NORM, WEIGHT_NORM_OLD
from spectra_jax.convert.encoder_file import read_encoder
from spectra_jax.convert.transformers_config import read_encoder_config
from spectra_jax.errors import CheckpointError
from tests.encoders.saved_models import (
    HEADS,
    INDEX,
    PRE_NORM,
    WEIGHTS,
    Tensors,
    change_config,
    change_tensors,
    saved,
    split_into_files,
)

pytestmark = pytest.mark.parity

_QUERY = "encoder.layers.1.attention.q_proj.weight"
_BIAS = "encoder.layers.0.final_layer_norm.bias"
_EMBEDDING = "masked_spec_embed"


def opened(directory: Path, num_layers: int | None = None, file: str = WEIGHTS) -> EncoderCheckpoint:
    return read_encoder(directory / file, read_encoder_config(directory / "config.json"), "NAME", num_layers)


def assert_same(found: EncoderCheckpoint, wanted: EncoderCheckpoint) -> None:
    arrays, others = dict(found), dict(wanted)
    assert arrays.keys() == others.keys()
    for path, array in others.items():
        np.testing.assert_array_equal(arrays[path], array, err_msg=path, strict=True)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("wav2vec2", {}),
        ("wav2vec2", {**PRE_NORM, "adapter_attn_dim": 5}),
        ("hubert", {"feat_proj_layer_norm": False}),
        ("wavlm", {}),
        ("wavlm", PRE_NORM),
        ("wav2vec2", {"mask_time_prob": 0.0}),
    ],
)
def test_every_weight_is_set(model_type: str, options: dict[str, object], tmp_path: Path) -> None:
    checkpoint = opened(saved(tmp_path, model_type, **options))
    found = {path: array.shape for path, array in checkpoint}
    assert found == {path: shape.shape for path, shape in encoder_weight_shapes(checkpoint.config).items()}
    assert checkpoint.provenance == {"source": "NAME", "source_format": "transformers"}


@pytest.mark.parametrize("head", HEADS)
def test_heads_are_ignored_and_reported(head: str, tmp_path: Path) -> None:
    model_class, prefix, ignored = HEADS[head]
    model_type = prefix.removesuffix(".")
    options = {"use_weighted_layer_sum": True} if head == "classification" else {}
    checkpoint = opened(saved(tmp_path / "head", model_type, model_class, **options))
    assert checkpoint.provenance["names_without"] == prefix
    assert checkpoint.provenance["heads_ignored"] == ignored

    def without_head(tensors: Tensors) -> Tensors:
        return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}

    assert_same(checkpoint, opened(change_tensors(tmp_path / "head", without_head)))


@pytest.mark.parametrize("prefix", ["module.", "wav2vec2.", "module.wav2vec2.", "hubert."])
def test_prefixes_are_accepted(prefix: str, tmp_path: Path) -> None:
    wanted = {path: array.copy() for path, array in opened(saved(tmp_path))}
    change_tensors(tmp_path, lambda tensors: {prefix + name: array for name, array in tensors.items()})
    found = opened(tmp_path)
    assert found.provenance["names_without"] == prefix
    for path, array in found:
        np.testing.assert_array_equal(array, wanted[path])


def test_heads_behind_the_prefix_of_data_parallelism(tmp_path: Path) -> None:
    saved(tmp_path, "wav2vec2", HEADS["ctc"][0])
    change_tensors(tmp_path, lambda tensors: {f"module.{name}": array for name, array in tensors.items()})
    found = opened(tmp_path)
    assert found.provenance["names_without"] == "module.wav2vec2."
    assert found.provenance["heads_ignored"] == "lm_head"
    dict(found)


def test_both_names_of_weight_norm_are_accepted(tmp_path: Path) -> None:
    wanted = {path: array.copy() for path, array in opened(saved(tmp_path))}
    renamed = dict(zip(WEIGHT_NORM, WEIGHT_NORM_OLD, strict=True))
    change_tensors(tmp_path, lambda tensors: {renamed.get(name, name): array for name, array in tensors.items()})
    for path, array in opened(tmp_path):
        np.testing.assert_array_equal(array, wanted[path])


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    wanted = {path: array.copy() for path, array in opened(saved(tmp_path))}
    split_into_files(tmp_path)
    for path, array in opened(tmp_path, file=INDEX):
        np.testing.assert_array_equal(array, wanted[path])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("some", [False, True])
def test_narrow_dtypes_keep_their_values(dtype: type, some: bool, tmp_path: Path) -> None:
    def narrow(tensors: Tensors) -> Tensors:
        return {
            name: array.astype(dtype) if not some or name in (_QUERY, WEIGHT_NORM[1]) else array
            for name, array in tensors.items()
        }

    def wide(tensors: Tensors) -> Tensors:
        return {name: array.astype(np.float32) for name, array in narrow(tensors).items()}

    found = opened(change_tensors(saved(tmp_path / "narrow"), narrow))
    assert found.provenance["source_dtype"] == np.dtype(dtype).name + (" and float32" if some else "")
    assert_same(found, opened(change_tensors(saved(tmp_path / "wide"), wide)))


def test_a_missing_mask_embedding_switches_spec_augment_off(tmp_path: Path) -> None:
    saved(tmp_path, mask_feature_prob=0.02)
    change_tensors(tmp_path, lambda tensors: {name: tensors[name] for name in tensors if name != _EMBEDDING})
    found = opened(tmp_path)
    assert found.provenance["spec_augment"] == "off"
    assert found.config.mask_time_prob == found.config.mask_feature_prob == 0
    assert _EMBEDDING not in dict(found)


def test_spec_augment_that_was_off_already_is_not_reported(tmp_path: Path) -> None:
    saved(tmp_path, apply_spec_augment=False)
    change_tensors(tmp_path, lambda tensors: {name: tensors[name] for name in tensors if name != _EMBEDDING})
    assert "spec_augment" not in opened(tmp_path).provenance


def test_a_mask_embedding_without_spec_augment_is_ignored(tmp_path: Path) -> None:
    change_config(saved(tmp_path), mask_time_prob=0.0)
    assert _EMBEDDING not in dict(opened(tmp_path))


@pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm"])
def test_the_first_layers_only(model_type: str, tmp_path: Path) -> None:
    saved(tmp_path, model_type)
    complete, first = opened(tmp_path), opened(tmp_path, 2)
    assert first.config.num_hidden_layers == 2
    assert first.provenance["layers"] == "2 of 3"
    wanted = {path: array for path, array in complete if not path.startswith("layers.2.")}
    assert dict(first).keys() == wanted.keys()
    # A damaged later layer is not read.
    change_tensors(tmp_path, lambda tensors: tensors["encoder.layers.2.layer_norm.bias"].fill(np.nan))
    dict(opened(tmp_path, 2))
    with pytest.raises(CheckpointError):
        dict(opened(tmp_path))


@pytest.mark.parametrize("num_layers", [0, 4, -1, "2", 2.0, True])
def test_another_number_of_layers_is_refused(num_layers: int, tmp_path: Path, annotations_unchecked: None) -> None:
    with pytest.raises(ValueError, match=f"num_layers = {num_layers!r}, but it must be a whole number from 1 to 3"):
        opened(saved(tmp_path), num_layers)


FAULTS: list[tuple[Callable[[Tensors], object], list[str]]] = [
    (lambda tensors: tensors.pop(_QUERY), [f"missing tensor {_QUERY} [24, 24]"]),
    (
        lambda tensors: tensors.update({"encoder.extra.weight": np.ones(2, np.float32)}),
        ["unexpected tensor encoder.extra.weight [2]"],
    ),
    # Beyond the layers of the configuration.
    (
        lambda tensors: tensors.update({"encoder.layers.3.layer_norm.bias": np.ones(24, np.float32)}),
        ["unexpected tensor encoder.layers.3.layer_norm.bias [24]"],
    ),
    # Not a head that transformers has.
    (
        lambda tensors: tensors.update({"lm_head2.weight": np.ones(2, np.float32)}),
        ["unexpected tensor lm_head2.weight [2]"],
    ),
    (
        lambda tensors: tensors.update({_BIAS: tensors[_BIAS][:5].copy()}),
        [f"{_BIAS} has shape [5], expected [24]"],
    ),
    (
        lambda tensors: tensors.update({"encoder.layer_norm.bias": np.zeros(24)}),
        ["encoder.layer_norm.bias has dtype F64, expected F32"],
    ),
    (
        lambda tensors: tensors.update({WEIGHT_NORM_OLD[0]: tensors.pop(WEIGHT_NORM[0])}),
        [f"missing tensor {WEIGHT_NORM[0]} [1, 1, 6]", f"unexpected tensor {WEIGHT_NORM_OLD[0]} [1, 1, 6]"],
    ),
]


@pytest.mark.parametrize(("change", "problems"), FAULTS)
def test_each_fault_is_reported(change: Callable[[Tensors], object], problems: list[str], tmp_path: Path) -> None:
    def changed(tensors: Tensors) -> Tensors:
        change(tensors)
        return tensors

    with pytest.raises(CheckpointError) as raised:
        opened(change_tensors(saved(tmp_path), changed))
    assert raised.value.problems == problems


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    def changed(tensors: Tensors) -> Tensors:
        for change, _ in FAULTS:
            change(tensors)
        return tensors

    with pytest.raises(CheckpointError, match="not the tensors of a wav2vec2 checkpoint of this") as raised:
        opened(change_tensors(saved(tmp_path), changed))
    assert sorted(raised.value.problems) == sorted(problem for _, problems in FAULTS for problem in problems)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    change_tensors(saved(tmp_path), lambda tensors: tensors[_BIAS].put(3, value))
    with pytest.raises(CheckpointError, match="NAME: damaged weights") as raised:
        dict(opened(tmp_path))
    assert raised.value.problems == ["layers.0.feed_forward_norm.bias: 1 of 24 values are NaN or infinite"]


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    change_config(saved(tmp_path), model_type="wavlm")
    with pytest.raises(CheckpointError) as raised:
        opened(tmp_path)
    assert "missing tensor encoder.layers.0.attention.rel_attn_embed.weight [320, 4]" in raised.value.problems
