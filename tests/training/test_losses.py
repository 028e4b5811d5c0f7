"""The losses: their formulas, their extremes, and the heads that they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spectra_jax.errors import ConfigError
from spectra_jax.model.config import SpectraConfig
from spectra_jax.training import TrainingConfig
from spectra_jax.training.losses import clip_losses, cross_entropy, focal_loss, oc_softmax_loss, require_fitting_head

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(0, 3, (40, 2)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 2, 40), jnp.int32)
COSINES = jnp.asarray(RNG.uniform(-1, 1, 40), jnp.float32)
OC_LOGITS = jnp.stack([-COSINES, COSINES], axis=1)


def probabilities() -> np.ndarray:
    """Of each clip's class, in float64."""
    exponentials = np.exp(np.asarray(LOGITS, np.float64))
    shares: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.take_along_axis(shares, np.asarray(LABELS)[:, None], axis=1)[:, 0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_the_focal_loss_is_its_formula(gamma: float) -> None:
    """Equation 4 of Lin et al. (2017)."""
    p = probabilities()
    np.testing.assert_allclose(focal_loss(LOGITS, LABELS, gamma), -((1 - p) ** gamma) * np.log(p), rtol=2e-5, atol=1e-6)


def test_the_focal_loss_without_an_exponent_is_the_cross_entropy() -> None:
    np.testing.assert_allclose(focal_loss(LOGITS, LABELS, 0.0), cross_entropy(LOGITS, LABELS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("alpha", "margins"), [(20.0, (0.9, 0.2)), (5.0, (0.5, -0.5))])
def test_oc_softmax_is_its_formula(alpha: float, margins: tuple[float, float]) -> None:
    """Equation 5 of Zhang, Jiang, Duan (2021), where y = 0 is bona fide, with the margin m0, and y = 1 is spoof."""
    y = 1 - np.asarray(LABELS)
    margin = np.array(margins, np.float64)[y]
    wanted = np.log1p(np.exp(alpha * (margin - np.asarray(COSINES, np.float64)) * (-1.0) ** y))
    np.testing.assert_allclose(oc_softmax_loss(OC_LOGITS, LABELS, alpha, margins), wanted, rtol=2e-5, atol=1e-6)


EXTREMES: dict[str, tuple[Callable[[jax.Array, jax.Array], jax.Array], tuple[float, ...]]] = {
    "cross_entropy": (cross_entropy, (0.0, 1e4, -1e4, 1e30)),
    "focal, gamma 2": (lambda logits, labels: focal_loss(logits, labels, 2.0), (0.0, 1e4, -1e4, 1e30)),
    "focal, gamma 0.5": (lambda logits, labels: focal_loss(logits, labels, 0.5), (0.0, 1e4, -1e4, 1e30)),
    "oc_softmax": (lambda logits, labels: oc_softmax_loss(logits, labels, 1e3, (0.9, 0.2)), (-1.0, 0.2, 0.9, 1.0)),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_losses_and_gradients_are_finite_at_the_extremes(name: str) -> None:
    loss, values = EXTREMES[name]
    for value in values:
        logits = jnp.asarray([[-value, value]] * 2, jnp.float32)
        total, gradient = jax.value_and_grad(lambda logits: jnp.sum(loss(logits, jnp.asarray([0, 1]))))(logits)
        assert np.isfinite(total) and np.isfinite(gradient).all(), (value, total, gradient)


def test_the_configuration_chooses_the_loss() -> None:
    cases: dict[str, Any] = {
        "cross_entropy": cross_entropy(LOGITS, LABELS),
        "focal": focal_loss(LOGITS, LABELS, 3.0),
        "oc_softmax": oc_softmax_loss(LOGITS, LABELS, 10.0, (0.8, 0.1)),
    }
    for name, wanted in cases.items():
        training = TrainingConfig(loss=name, focal_gamma=3.0, oc_softmax_alpha=10.0, oc_softmax_margins=(0.8, 0.1))
        np.testing.assert_array_equal(clip_losses(LOGITS, LABELS, training), wanted)
    np.testing.assert_array_equal(clip_losses(LOGITS, LABELS, TrainingConfig()), cases["cross_entropy"])


def test_a_loss_needs_its_head() -> None:
    cosine = SpectraConfig(head="cosine")
    require_fitting_head(TrainingConfig(loss="oc_softmax"), cosine)
    require_fitting_head(TrainingConfig(loss="focal"), SpectraConfig())
    with pytest.raises(ConfigError, match=r'loss = "oc_softmax" needs model\.head = "cosine"'):
        require_fitting_head(TrainingConfig(loss="oc_softmax"), replace(cosine, head="logits"))
    with pytest.raises(ConfigError, match='has the head "cosine", which is trained with oc_softmax'):
        require_fitting_head(TrainingConfig(), cosine)


@pytest.mark.parity
def test_losses_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    functional = torch.nn.functional
    logits = torch.tensor(np.asarray(LOGITS), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(np.asarray(LABELS), dtype=torch.long)
    entropy = functional.cross_entropy(logits, labels, reduction="none")
    focal = (1 - torch.exp(-entropy)) ** 2 * entropy
    focal.sum().backward()
    np.testing.assert_allclose(focal_loss(LOGITS, LABELS, 2.0), focal.detach().numpy(), rtol=2e-5, atol=1e-6)
    gradient = jax.grad(lambda logits: jnp.sum(focal_loss(logits, LABELS, 2.0)))(LOGITS)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-4, atol=1e-6)
    # As in the authors' code: the margin minus the cosine for label 0 (bona fide), the reverse for label 1.
    cosines = torch.tensor(np.asarray(COSINES), dtype=torch.float64, requires_grad=True)
    distance = torch.where(labels == 1, 0.9 - cosines, cosines - 0.2)
    theirs = functional.softplus(20 * distance)
    theirs.sum().backward()
    np.testing.assert_allclose(
        oc_softmax_loss(OC_LOGITS, LABELS, 20.0, (0.9, 0.2)), theirs.detach().numpy(), rtol=2e-5, atol=1e-6
    )
    gradient = jax.grad(lambda logits: jnp.sum(oc_softmax_loss(logits, LABELS, 20.0, (0.9, 0.2))))(OC_LOGITS)
    np.testing.assert_allclose(gradient[:, 1], cosines.grad.numpy(), rtol=1e-4, atol=1e-5)
