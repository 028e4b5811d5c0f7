"""The weights that a run starts from: a detector's, a pretrained encoder's with a new back-end, or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32

from spectra_jax.checkpoints.checkpoint import Checkpoint, EncoderCheckpoint
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.encoders import open_encoder
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training.augment import AugmentConfig
from spectra_jax.training.config import RunConfig
from spectra_jax.training.data import Batches
from spectra_jax.training.filterbank import filterbank
from spectra_jax.training.sampling import Clip
from spectra_jax.training.step import Leaves, Network

_FIRST_KERNEL = "encoder.feature_extractor.layers.0.conv.kernel"


@dataclass(frozen=True)
class Start:
    """What a run starts from; random weights for what neither has.

    Attributes:
      init: a complete detector.
      encoder: a pretrained encoder.
    """

    init: Checkpoint | None = None
    encoder: EncoderCheckpoint | None = None


def open_start(init: str | Path | None, encoder: str | Path | None, encoder_layers: int | None) -> Start:
    """Open what a run starts from; no weights are read yet. See `Run` for the arguments.

    Raises:
      ValueError: arguments that exclude each other.
      CheckpointError, ConfigError, FileNotFoundError, HubError, OSError: there is no such model, or it cannot be used.
    """
    if init is not None and encoder is not None:
        raise ValueError(
            "init and encoder exclude each other: init starts from a complete detector, encoder from a pretrained "
            "encoder with a new bridge and back-end"
        )
    if encoder is None and encoder_layers is not None:
        raise ValueError("encoder_layers needs encoder, whose first layers it takes")
    return Start(
        None if init is None else open_checkpoint(init),
        None if encoder is None else open_encoder(encoder, encoder_layers),
    )


def with_start(config: RunConfig, start: Start) -> RunConfig:
    """The configuration with the network of what the run starts from, and with the encoder's training options applied.

    Raises:
      ConfigError: the network that results is not valid.
    """
    model = config.model if start.init is None else start.init.config
    if start.encoder is not None:
        model = replace(model, encoder=start.encoder.config)
    if not config.training.encoder_regularization:
        model = replace(model, encoder=model.encoder.without_regularization())
    return replace(config, model=model)


def initial_weights(config: RunConfig, network: Network, start: Start, clips: Sequence[Clip]) -> Leaves:
    """All arrays of the network before the first step, by their paths.

    Args:
      config: of the run.
      network: the architecture of `config.model`.
      start: whose weights to start from; all others are random, from the seed.
      clips: of the training split, from which a filter bank takes its scale.
    """
    if start.init is not None:
        return {path: jnp.asarray(array, network.shapes[path].dtype) for path, array in start.init}
    training = config.training
    rngs = nnx.Rngs(params=training.seed)
    leaves = network.leaves(SpectraAASIST3(config.model, precision=training.precision, rngs=rngs))
    if start.encoder is not None:
        for name, array in start.encoder:
            leaves[f"encoder.{name}"] = jnp.asarray(array, network.shapes[f"encoder.{name}"].dtype)
    elif training.filterbank:
        leaves[_FIRST_KERNEL] = jnp.asarray(_first_kernel(config, clips), leaves[_FIRST_KERNEL].dtype)
    return leaves


def _first_kernel(config: RunConfig, clips: Sequence[Clip]) -> Float32[np.ndarray, "taps 1 channels"]:
    encoder = config.model.encoder
    # Scaled on clips without augmentation, which depend on nothing but the seed.
    plain = replace(config.training, augment=AugmentConfig())
    return filterbank(
        Batches(clips, config.model, plain).batch(0).windows,
        taps=encoder.conv_kernel[0],
        channels=encoder.conv_dim[0],
        stride=encoder.conv_stride[0],
        sample_rate=config.model.sample_rate,
        rng=np.random.default_rng(config.training.seed),
    )
