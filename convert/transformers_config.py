"""The `config.json` of a speech encoder in transformers: read to an `EncoderConfig`, and written from one.

`save_pretrained` of transformers writes the fields that differ from the defaults of the configuration's class, so an
absent field has the default of `Wav2Vec2Config`, `HubertConfig` or `WavLMConfig`. Fields of heads, losses and text
generation are ignored, since the encoder does not depend on them.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from spectra_jax.errors import ConfigError
from spectra_jax.files.untrusted import LARGEST_JSON, read_json
from spectra_jax.model.config import ENCODER_TYPES, EncoderConfig

# Fields of `EncoderConfig` that all three classes have, with the defaults of the classes.
_COMMON: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "do_stable_layer_norm": False,
    "conv_bias": False,
    "conv_dim": (512, 512, 512, 512, 512, 512, 512),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.1,
    "apply_spec_augment": True,
    "mask_time_prob": 0.05,
    "mask_time_length": 10,
    "mask_time_min_masks": 2,
    "mask_feature_prob": 0.0,
    "mask_feature_length": 10,
    "mask_feature_min_masks": 0,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "wav2vec2": {**_COMMON, "adapter_attn_dim": None},
    "hubert": {**_COMMON, "feat_proj_layer_norm": True},
    "wavlm": {**_COMMON, "num_buckets": 320, "max_bucket_distance": 800},
}
"""The fields that each class has, by `model_type`, with the values that absent fields have."""

_WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {
    "add_adapter": (False, None),
    "conv_pos_batch_norm": (False, None),
    # The classes of these three models have no such field; others of the family have.
    "position_embeddings_type": (None,),
}
"""Options that change the computation in a way that this package lacks, with the values that switch them off."""


def is_encoder(values: object) -> bool:
    """Whether the content of a `config.json` is that of a speech encoder of a kind that this package has."""
    return isinstance(values, dict) and values.get("model_type") in ENCODER_TYPES


def read_encoder_config(path: str | Path) -> EncoderConfig:
    """Read the `config.json` of a speech encoder in transformers.

    Raises:
      ConfigError: not valid JSON, another kind of model, or an option that this package lacks; the message names the
        file, the option and its value.
      OSError: the file cannot be read, or is a device or pipe.
    """
    try:
        return encoder_config(read_json(path, LARGEST_JSON))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not a JSON file of a configuration ({error})") from error


def encoder_config(values: object) -> EncoderConfig:
    """The configuration of an encoder, from the content of its `config.json` in transformers.

    Raises:
      ConfigError: another kind of model, an option that this package lacks, or a value that breaks a rule.
    """
    if not isinstance(values, dict):
        raise ConfigError("config: expected a JSON object")
    model_type = values.get("model_type")
    if model_type not in ENCODER_TYPES:
        raise ConfigError(
            f"config: model_type = {_shown(model_type)}, which is not one of the encoders that can be loaded: "
            f"{', '.join(ENCODER_TYPES)}"
        )
    for name, off in _WITHOUT_EFFECT.items():
        value = values.get(name)
        if value not in off:
            raise ConfigError(
                f"config: {name} = {_shown(value)} changes what the encoder computes, and this package lacks it; only "
                f"{_shown(off[0])} can be loaded"
            )
    defaults = DEFAULTS[model_type]
    # An explicit null of transformers, as for `adapter_attn_dim`, is a value and not an absent field.
    return EncoderConfig.from_dict(
        {"model_type": model_type, **{name: values.get(name, defaults[name]) for name in defaults}}
    )


def transformers_config(config: EncoderConfig) -> dict[str, Any]:
    """The content of a `config.json` from which transformers builds the same encoder: every field, as plain JSON.

    Raises:
      ConfigError: transformers lacks an option of the configuration.
    """
    defaults = DEFAULTS[config.model_type]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in {*defaults, "model_type"} and value != field.default:
            raise ConfigError(
                f"config: {field.name} = {_shown(value)}, and transformers has no such option for {config.model_type}"
            )
    fields = {name: getattr(config, name) for name in defaults}
    return {
        "architectures": [ARCHITECTURES[config.model_type]],
        "model_type": config.model_type,
        **json.loads(json.dumps(fields)),
    }


ARCHITECTURES = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel"}
"""The class of the encoder in transformers, by `model_type`."""


def _shown(value: object) -> str:
    return f"{json.dumps(value, default=str):.100}"
