"""Encoders of transformers, and ours with the same weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from flax import nnx
from torch.nn.utils.parametrize import remove_parametrizations

from spectra_jax.convert.encoder import expand_encoder
from spectra_jax.convert.entries import Entry
from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.encoder import SpeechEncoder

_CLASSES = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
}


def reference_encoder(config: EncoderConfig, seed: int) -> Any:
    """A model of transformers in float64, with random weights and without the weight norm's two factors."""
    config_class, model_class = _CLASSES[config.model_type]
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    del values["model_type"]
    torch.manual_seed(seed)
    model = model_class(config_class(**values, attn_implementation="eager")).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # initial biases and norms are zeros and ones, which hide mistakes
            parameter.add_(0.3 * torch.randn_like(parameter))
    model = model.double()
    remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight", leave_parametrized=True)
    return model


def weight_names(encoder: SpeechEncoder) -> dict[str, nnx.Variable[Any]]:
    """The weights of an encoder by their names."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(nnx.state(encoder, nnx.Param))}


def entries(encoder: SpeechEncoder) -> list[Entry]:
    """The rows of the name table for an encoder. Each weight must have one."""
    names = weight_names(encoder)
    found = expand_encoder(encoder.config, names)
    assert sorted(entry.target for entry in found) == sorted(names)
    return found


def encoder_like(reference: Any, config: EncoderConfig, precision: str = "float64") -> SpeechEncoder:
    """Our encoder with the weights of a reference."""
    encoder = SpeechEncoder(config, precision=precision, rngs=None)
    variables, tensors = weight_names(encoder), reference.state_dict()
    for entry in entries(encoder):
        array = tensors[entry.source].numpy().transpose(entry.axes)
        assert array.shape == variables[entry.target].get_value().shape, entry
        variables[entry.target].set_value(jnp.asarray(array, encoder.precision.dtype))
    return encoder


def attention_mask(lengths: np.ndarray | None, samples: int) -> torch.Tensor | None:
    """The mask that transformers takes instead of lengths."""
    if lengths is None:
        return None
    return torch.from_numpy((np.arange(samples) < lengths[:, None]).astype(np.int64))


def reference_states(
    reference: Any, waveform: torch.Tensor, lengths: np.ndarray | None
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The hidden states of transformers, and the last one after the final norm."""
    mask = attention_mask(lengths, waveform.shape[1])
    output = reference(waveform, attention_mask=mask, output_hidden_states=True)
    return list(output.hidden_states), output.last_hidden_state


def our_states(encoder: SpeechEncoder, waveform: np.ndarray, lengths: np.ndarray | None) -> list[np.ndarray]:
    graph, state = nnx.split(encoder)

    @jax.jit
    def run(state: Any, waveform: jax.Array, lengths: jax.Array | None) -> tuple[jax.Array, ...]:
        return nnx.merge(graph, state).hidden_states(waveform, lengths)

    return [np.asarray(value) for value in run(state, waveform, lengths)]
