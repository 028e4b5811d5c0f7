"""Floating-point operations of one clip: matrix products and convolutions, counted from the configuration.

A multiply and an add are two operations. Norms, activations and the splines' own polynomials are not counted, so a
share of the machine's peak is a lower bound. The graph layers are counted over unordered pairs of nodes, the fewest
that the network can be computed with: every contender's rate is of the same useful work, however it computes.
"""

from __future__ import annotations

import math

from spectra_jax.model.aasist import ATTENTION_CHANNELS, NUM_BRANCHES
from spectra_jax.model.config import EncoderConfig, SpectraConfig
from spectra_jax.model.graph import num_kept


def stage_flops(config: SpectraConfig, samples: int) -> dict[str, int]:
    """Operations of each stage for one window of `samples` samples."""
    encoder = config.encoder
    frames, hidden = encoder.num_frames(samples), encoder.hidden_size
    bridge = 2 * frames * config.bridge_dim * (hidden + config.bridge_dim)
    return {
        "feature extractor": _feature_extractor(encoder, samples),
        "feature projection": 2 * frames * encoder.conv_dim[-1] * hidden,
        "positional convolution": 2
        * frames
        * encoder.num_conv_pos_embeddings
        * hidden
        * (hidden // encoder.num_conv_pos_embedding_groups),
        "transformer layers": encoder.num_hidden_layers * _transformer_layer(encoder, frames),
        "bridge": bridge,
        "residual encoder and attention map": _residual(config, frames),
        "graph back-end": _graph(config, frames),
    }


ENCODER_STAGES = ("feature extractor", "feature projection", "positional convolution", "transformer layers")


def clip_flops(config: SpectraConfig, samples: int, *, encoder_only: bool = False) -> int:
    """Operations of the complete network, or of its encoder, for one window."""
    stages = stage_flops(config, samples)
    return sum(count for name, count in stages.items() if name in ENCODER_STAGES or not encoder_only)


def _feature_extractor(config: EncoderConfig, samples: int) -> int:
    layers = zip(config.layer_frames(samples), config.conv_kernel, (1, *config.conv_dim), config.conv_dim, strict=False)
    return sum(2 * frames * kernel * inputs * outputs for frames, kernel, inputs, outputs in layers)


def _transformer_layer(config: EncoderConfig, frames: int) -> int:
    projections = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    attention = 2 * frames * config.hidden_size  # queries by keys, then weights by values
    return 2 * frames * (projections + attention)


def _residual(config: SpectraConfig, frames: int) -> int:
    rows, columns = config.num_spectral_nodes, frames // 3
    total = 0
    for inputs, outputs in config.residual_channels:
        total += 2 * (rows + 1) * columns * 6 * inputs * outputs  # the first convolution adds a row
        total += 2 * rows * columns * 6 * outputs * outputs
        total += 2 * rows * columns * 3 * inputs * outputs * (inputs != outputs)
    channels = config.residual_channels[-1][1]
    return total + 2 * rows * columns * 2 * channels * ATTENTION_CHANNELS


def _graph(config: SpectraConfig, frames: int) -> int:
    channels = config.residual_channels[-1][1]
    width, inner = config.gat_dims

    def kan(nodes: int, inputs: int, outputs: int) -> int:
        return 2 * nodes * inputs * outputs * (1 + config.kan.num_bases)

    def attend(nodes: int, inputs: int, outputs: int, logits: int) -> int:
        pairs = math.comb(nodes + 1, 2)
        scores = kan(pairs, inputs, outputs) + 2 * pairs * outputs * logits
        return scores + 2 * nodes * nodes * inputs + 2 * kan(nodes, inputs, outputs)

    def heterogeneous(nodes: int, inputs: int) -> int:
        master = kan(nodes, inputs, inner) + 2 * nodes * (inner + inputs) + 2 * kan(1, inputs, inner)
        return kan(nodes, inputs, inputs) + attend(nodes, inputs, inner, 3) + master

    spectral, temporal = config.num_spectral_nodes, frames // 3
    total = attend(spectral, channels, width, 1) + attend(temporal, channels, width, 1)
    total += kan(spectral, width, 1) + kan(temporal, width, 1)
    spectral, temporal = (
        num_kept(nodes, ratio) for nodes, ratio in zip((spectral, temporal), config.pool_ratios, strict=False)
    )
    branch = heterogeneous(spectral + temporal, width) + kan(spectral + temporal, inner, 1)
    left = num_kept(spectral, config.pool_ratios[2]) + num_kept(temporal, config.pool_ratios[2])
    branch += heterogeneous(left, inner)
    return total + NUM_BRANCHES * branch + kan(1, 5 * inner, config.num_classes)
