"""Small speech encoders as transformers saves them, and functions that change what was saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
pytest.importorskip("transformers", reason="needs the extra `parity` (torch, transformers)")

from transformers.models.hubert import HubertConfig, HubertForCTC, HubertModel  # noqa: E402
from transformers.models.wav2vec2 import (  # noqa: E402
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
    Wav2Vec2Model,
)
from transformers.models.wavlm import WavLMConfig, WavLMForCTC, WavLMModel  # noqa: E402

Tensors = dict[str, np.ndarray]
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
CLASSES: dict[str, tuple[Any, Any]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "hubert": (HubertConfig, HubertModel),
    "wavlm": (WavLMConfig, WavLMModel),
}
HEADS: dict[str, tuple[Any, str, str]] = {
    "ctc": (Wav2Vec2ForCTC, "wav2vec2.", "lm_head"),
    "pretraining": (Wav2Vec2ForPreTraining, "wav2vec2.", "project_hid, project_q, quantizer"),
    "classification": (Wav2Vec2ForSequenceClassification, "wav2vec2.", "classifier, layer_weights, projector"),
    "xvector": (Wav2Vec2ForXVector, "wav2vec2.", "classifier, feature_extractor, objective, projector, tdnn"),
    "hubert": (HubertForCTC, "hubert.", "lm_head"),
    "wavlm": (WavLMForCTC, "wavlm.", "lm_head"),
}
SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 5,
    "tdnn_dim": (8, 8),
    "tdnn_kernel": (3, 1),
    "tdnn_dilation": (1, 1),
    "xvector_output_dim": 7,
    "codevector_dim": 8,
    "proj_codevector_dim": 6,
    "num_codevectors_per_group": 4,
    "classifier_proj_size": 9,
}
PRE_NORM: dict[str, Any] = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def model(model_type: str = "wav2vec2", head: Any = None, **options: Any) -> Any:
    """A small model of transformers with random weights and biases."""
    config_class, encoder_class = CLASSES[model_type]
    torch.manual_seed(0)
    found = (head or encoder_class)(config_class(**{**SMALL, **options})).eval()
    with torch.no_grad():
        for parameter in found.parameters():  # initial biases and norms are zeros and ones, which hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found


def saved(directory: Path, model_type: str = "wav2vec2", head: Any = None, **options: Any) -> Path:
    """A directory as transformers saves a small model."""
    model(model_type, head, **options).save_pretrained(directory)
    return directory


def change_tensors(directory: Path, change: Callable[[Tensors], Tensors | None]) -> Path:
    """The directory, with its tensors changed in place or replaced by those that `change` returns."""
    tensors = {name: array.copy() for name, array in load_file(directory / WEIGHTS).items()}
    tensors = change(tensors) or tensors
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, directory / WEIGHTS)
    return directory


def change_config(directory: Path, **fields: object) -> Path:
    """The directory, with fields of its `config.json` set; a field that is `...` is removed."""
    path = directory / CONFIG
    values = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))
    return directory


def split_into_files(directory: Path) -> Path:
    """The directory, with its weights in two files and their index."""
    tensors = load_file(directory / WEIGHTS)
    (directory / WEIGHTS).unlink()
    shard_of: dict[str, str] = {}
    for part in range(2):
        names, shard = sorted(tensors)[part::2], f"model-{part + 1:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, directory / shard)
        shard_of |= dict.fromkeys(names, shard)
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    return directory
