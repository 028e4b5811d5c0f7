"""The name table of speech encoders: `Wav2Vec2Model`, `HubertModel` and `WavLMModel` of transformers.

One table describes all three. A row is used if the configured encoder has such a weight: adapters, for example, or
WavLM's relative positions.
"""

from __future__ import annotations

from collections.abc import Iterable

from spectra_jax.convert.entries import Entry, Parts, Row, expand_rows
from spectra_jax.model.config import EncoderConfig

_LAYER = "encoder.layers.{layer}"

# (PyTorch module, Flax module, kind)
ENCODER_TABLE: tuple[Row, ...] = (
    ("feature_extractor.conv_layers.{conv}.conv", "feature_extractor.layers.{conv}.conv", "conv1d"),
    ("feature_extractor.conv_layers.{conv}.layer_norm", "feature_extractor.layers.{conv}.norm", "layer_norm"),
    ("feature_projection.layer_norm", "feature_projection.norm", "layer_norm"),
    ("feature_projection.projection", "feature_projection.linear", "linear"),
    ("masked_spec_embed", "masked_spec_embed", "features"),
    # Its weight is the product of two tensors, magnitude and direction: see WEIGHT_NORM.
    ("encoder.pos_conv_embed.conv", "positional_convolution.conv", "conv1d"),
    # WavLM keeps the embedding that all layers share in the first one.
    ("encoder.layers.0.attention.rel_attn_embed", "relative_position_bias", "embedding"),
    (f"{_LAYER}.layer_norm", "layers.{layer}.attention_norm", "layer_norm"),
    (f"{_LAYER}.attention.q_proj", "layers.{layer}.attention.query", "linear"),
    (f"{_LAYER}.attention.k_proj", "layers.{layer}.attention.key", "linear"),
    (f"{_LAYER}.attention.v_proj", "layers.{layer}.attention.value", "linear"),
    (f"{_LAYER}.attention.out_proj", "layers.{layer}.attention.out", "linear"),
    (f"{_LAYER}.attention.gru_rel_pos_linear", "layers.{layer}.attention.position_gate.linear", "linear"),
    (f"{_LAYER}.attention.gru_rel_pos_const", "layers.{layer}.attention.position_gate.scale", "heads"),
    (f"{_LAYER}.final_layer_norm", "layers.{layer}.feed_forward_norm", "layer_norm"),
    (f"{_LAYER}.feed_forward.intermediate_dense", "layers.{layer}.feed_forward_in", "linear"),
    (f"{_LAYER}.feed_forward.output_dense", "layers.{layer}.feed_forward_out", "linear"),
    (f"{_LAYER}.adapter_layer.norm", "layers.{layer}.adapter.norm", "layer_norm"),
    (f"{_LAYER}.adapter_layer.linear_1", "layers.{layer}.adapter.linear1", "linear"),
    (f"{_LAYER}.adapter_layer.linear_2", "layers.{layer}.adapter.linear2", "linear"),
    ("encoder.layer_norm", "norm", "layer_norm"),
)

POSITIONAL = "encoder.pos_conv_embed.conv"
WEIGHT_NORM = (f"{POSITIONAL}.parametrizations.weight.original0", f"{POSITIONAL}.parametrizations.weight.original1")
"""Magnitude g (1, 1, taps) and direction v (out, in / groups, taps), whose product is the kernel `w = g v / ||v||`."""
WEIGHT_NORM_OLD = (f"{POSITIONAL}.weight_g", f"{POSITIONAL}.weight_v")
"""The names of the same pair in `torch.nn.utils.weight_norm`."""


def encoder_parts(config: EncoderConfig) -> Parts:
    """The repeated parts of an encoder: convolutions of the feature extractor, layers of the transformer."""
    return {
        "{conv}": [{"conv": i} for i in range(len(config.conv_dim))],
        "{layer}": [{"layer": i} for i in range(config.num_hidden_layers)],
    }


def expand_encoder(config: EncoderConfig, weights: Iterable[str]) -> list[Entry]:
    """The entries of the table for one encoder: one for every tensor that sets one of `weights`.

    The kernel of the positional convolution has the source `encoder.pos_conv_embed.conv.weight`, which files store as
    the pair `WEIGHT_NORM` or `WEIGHT_NORM_OLD`.

    Args:
      weights: names of weights of `SpeechEncoder(config)`, such as `layers.0.attention.query.kernel`.
    """
    return expand_rows(ENCODER_TABLE, encoder_parts(config), weights)
