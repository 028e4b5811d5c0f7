"""The weights that a run starts from: a checkpoint's, or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training.augment import AugmentConfig
from spectra_jax.training.config import RunConfig
from spectra_jax.training.data import Batches, Clip
from spectra_jax.training.filterbank import filterbank
from spectra_jax.training.step import Leaves, Network

_FIRST_KERNEL = "encoder.feature_extractor.layers.0.conv.kernel"


def initial_weights(
    config: RunConfig, network: Network, checkpoint: Checkpoint | None, clips: Sequence[Clip]
) -> Leaves:
    """All arrays of the network before the first step, by their paths.

    Args:
      config: of the run.
      network: the architecture of `config.model`.
      checkpoint: whose weights to start from; None for random weights.
      clips: of the training split, from which a filter bank takes its scale.
    """
    if checkpoint is not None:
        return {path: jnp.asarray(array, network.shapes[path].dtype) for path, array in checkpoint}
    training = config.training
    rngs = nnx.Rngs(params=training.seed)
    leaves = network.leaves(SpectraAASIST3(config.model, precision=training.precision, rngs=rngs))
    if training.filterbank:
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
