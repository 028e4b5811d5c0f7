"""The `config.json` of encoders in transformers: defaults of absent fields, refused options, and writing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spectra_jax.convert.transformers_config import (
    DEFAULTS,
    encoder_config,
    read_encoder_config,
    transformers_config,
)
from spectra_jax.errors import ConfigError
from spectra_jax.model.config import EncoderConfig

# WavLM masks features as the other two do, but its class in transformers has no default for this field.
_NOT_IN_THE_CLASS = {"wavlm": {"mask_feature_min_masks"}}


@pytest.mark.parity
@pytest.mark.parametrize("model_type", DEFAULTS)
def test_absent_fields_have_the_defaults_of_the_class(model_type: str) -> None:
    pytest.importorskip("transformers", reason="needs the extra `parity` (torch, transformers)")
    from tests.encoders.saved_models import CLASSES

    live = CLASSES[model_type][0]().to_dict()
    ours = DEFAULTS[model_type]
    assert set(ours) - set(live) == _NOT_IN_THE_CLASS.get(model_type, set())
    for name in ours.keys() & live.keys():
        value = tuple(live[name]) if isinstance(live[name], list) else live[name]
        assert ours[name] == value, name
    # Every other field of ours is one that the class lacks.
    assert not (set(EncoderConfig().to_dict()) - {"model_type"}) - set(ours)
    assert encoder_config({"model_type": model_type}) == encoder_config(live)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "wav2vec2-conformer"}, 'model_type = "wav2vec2-conformer", which is not one of'),
        ({"model_type": "unispeech-sat"}, "encoders that can be loaded: wav2vec2, hubert, wavlm"),
        ({"model_type": None}, "model_type = null"),
        ({"model_type": ["wav2vec2"]}, r'model_type = \["wav2vec2"\]'),
        ({"add_adapter": True}, "add_adapter = true changes what the encoder computes"),
        ({"model_type": "hubert", "conv_pos_batch_norm": True}, "conv_pos_batch_norm = true changes"),
        ({"position_embeddings_type": "rotary"}, 'position_embeddings_type = "rotary" changes'),
        ({"hidden_act": "relu"}, 'hidden_act = "relu", but it must be "gelu"'),
        ({"feat_extract_activation": "gelu_new"}, 'feat_extract_activation = "gelu_new"'),
        ({"feat_extract_norm": "batch"}, 'feat_extract_norm = "batch"'),
        ({"num_hidden_layers": "12"}, 'num_hidden_layers = "12"'),
    ],
)
def test_another_computation_is_refused_by_name_and_value(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "wav2vec2", **fields}))
    with pytest.raises(ConfigError, match=message) as raised:
        read_encoder_config(path)
    assert str(raised.value).startswith(f"{path}: config: ")


@pytest.mark.parametrize("text", ["[]", "{", '{"model_type": "wav2vec2", "hidden_size": NaN}', "7"])
def test_a_file_that_is_no_configuration_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json: "):
        read_encoder_config(path)


def test_fields_of_heads_generation_and_losses_are_ignored() -> None:
    others = {"vocab_size": 9, "ctc_loss_reduction": "mean", "bos_token_id": 3, "architectures": ["Wav2Vec2ForCTC"]}
    others |= {"add_adapter": False, "adapter_stride": 4, "num_negatives": 5, "use_weighted_layer_sum": True}
    assert encoder_config({"model_type": "wav2vec2", **others}) == encoder_config({"model_type": "wav2vec2"})


def test_a_field_that_another_class_lacks_is_ignored() -> None:
    """As transformers does: only HuBERT looks at `feat_proj_layer_norm`, and only WavLM at `num_buckets`."""
    stray = {"feat_proj_layer_norm": False, "num_buckets": 8}
    assert encoder_config({"model_type": "wav2vec2", **stray}) == encoder_config({"model_type": "wav2vec2"})
    assert not encoder_config({"model_type": "hubert", **stray}).feat_proj_layer_norm
    assert encoder_config({"model_type": "wavlm", **stray}).num_buckets == 8


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(),
        EncoderConfig(adapter_attn_dim=16, mask_time_prob=0.05, layerdrop=0.1),
        EncoderConfig(model_type="hubert", feat_proj_layer_norm=False, do_stable_layer_norm=False),
        EncoderConfig(model_type="wavlm", num_buckets=32, feat_extract_norm="group", conv_bias=False),
    ],
)
def test_what_is_written_is_read_again(config: EncoderConfig) -> None:
    assert encoder_config(json.loads(json.dumps(transformers_config(config)))) == config


def test_an_option_that_transformers_lacks_is_not_written() -> None:
    with pytest.raises(ConfigError, match=r"feat_proj_layer_norm = false, and transformers has no .* for wav2vec2"):
        transformers_config(EncoderConfig(feat_proj_layer_norm=False))
