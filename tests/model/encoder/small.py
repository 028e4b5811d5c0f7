"""A small encoder, quick to compile."""

from __future__ import annotations

from typing import Any

import numpy as np
from flax import nnx

from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.encoder import SpeechEncoder

DEFAULTS: dict[str, Any] = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "conv_dim": (6, 5),
    "conv_kernel": (6, 3),
    "conv_stride": (4, 2),
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
}


def small_config(**changes: Any) -> EncoderConfig:
    return EncoderConfig(**{**DEFAULTS, **changes})


def small_encoder(**changes: Any) -> SpeechEncoder:
    return SpeechEncoder(small_config(**changes), rngs=nnx.Rngs(0))


def noise(batch: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, samples)).astype(np.float32)
