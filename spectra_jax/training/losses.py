"""The losses of a clip: weighted cross entropy, the focal loss and OC-Softmax. See `TrainingConfig.loss`.

A clip's weight (`TrainingConfig.class_weights`) multiplies any of them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from spectra_jax.errors import ConfigError
from spectra_jax.model.config import SpectraConfig
from spectra_jax.training.config import TrainingConfig


def clip_losses(
    logits: Float[Array, "clips 2"], labels: Int[Array, " clips"], training: TrainingConfig
) -> Float[Array, " clips"]:
    """The loss of each clip, without its weight: logits (spoof, bona fide), labels 0 = spoof, 1 = bona fide."""
    if training.loss == "focal":
        return focal_loss(logits, labels, training.focal_gamma)
    if training.loss == "oc_softmax":
        return oc_softmax_loss(logits, labels, training.oc_softmax_alpha, training.oc_softmax_margins)
    return cross_entropy(logits, labels)


def cross_entropy(logits: Float[Array, "clips 2"], labels: Int[Array, " clips"]) -> Float[Array, " clips"]:
    """The cross entropy of each clip."""
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses


def focal_loss(logits: Float[Array, "clips 2"], labels: Int[Array, " clips"], gamma: float) -> Float[Array, " clips"]:
    """`-(1 - p)**gamma * log(p)`, where p is the probability of the clip's class.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), whose alpha is the clip's weight.
    """
    log_p = jax.nn.log_softmax(logits, axis=-1)
    of_class = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
    # With two classes, 1 - p is the other class's probability. Its logarithm is finite where p rounds to 1, and so is
    # the gradient of a power below one.
    of_other = jnp.take_along_axis(log_p, 1 - labels[:, None], axis=-1)[:, 0]
    return -jnp.exp(gamma * of_other) * of_class


def oc_softmax_loss(
    logits: Float[Array, "clips 2"], labels: Int[Array, " clips"], alpha: float, margins: tuple[float, float]
) -> Float[Array, " clips"]:
    """`log(1 + exp(alpha * d))`; d is how far a bona fide clip's cosine is below its margin, or a spoof's above its.

    Source: Zhang, Jiang, Duan, "One-Class Learning Towards Synthetic Voice Spoofing Detection" (2021).

    Args:
      logits: of the head `cosine`, whose second column is the cosine.
      labels: 0 = spoof, 1 = bona fide.
      alpha: the scale.
      margins: of bona fide and of spoof, as m0 and m1 in the paper.
    """
    cosine = logits[:, 1]
    distance = jnp.where(labels == 1, margins[0] - cosine, cosine - margins[1])
    return jax.nn.softplus(alpha * distance)


def require_fitting_head(training: TrainingConfig, model: SpectraConfig) -> None:
    """Raise ConfigError unless the network's head computes what the loss takes."""
    wanted = "cosine" if training.loss == "oc_softmax" else "logits"
    if model.head != wanted:
        other = "oc_softmax" if model.head == "cosine" else "cross_entropy or focal"
        raise ConfigError(
            f'config: training.loss = "{training.loss}" needs model.head = "{wanted}", but the network has the head '
            f'"{model.head}", which is trained with {other}'
        )
