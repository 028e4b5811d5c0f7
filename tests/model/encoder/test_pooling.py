"""Pooling of frames and of layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spectra_jax.model.encoder import WeightedLayerSum, mean_pool, statistics_pool
from tests.model.encoder.small import noise

FRAMES = noise(2, 60).reshape(2, 10, 6)
MASK = np.arange(10) < np.asarray([[10], [4]])


def test_pools_are_the_statistics_of_the_valid_frames() -> None:
    # Padded frames may hold anything.
    padded = np.where(MASK[..., None], FRAMES, np.nan)
    mean, pooled = np.asarray(mean_pool(padded, MASK)), np.asarray(statistics_pool(padded, MASK))
    for index, length in enumerate([10, 4]):
        valid = FRAMES[index, :length]
        np.testing.assert_allclose(mean[index], valid.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(pooled[index], np.concatenate([valid.mean(axis=0), valid.std(axis=0)]), atol=1e-6)
    np.testing.assert_allclose(np.asarray(mean_pool(FRAMES)), FRAMES.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("mask", [None, MASK, np.zeros_like(MASK)], ids=["all_valid", "some_valid", "none_valid"])
def test_the_gradient_of_constant_frames_is_finite(mask: np.ndarray | None) -> None:
    gradient = jax.grad(lambda x: jnp.sum(statistics_pool(x, mask)))(jnp.ones_like(FRAMES))
    assert np.isfinite(gradient).all()
    assert np.isfinite(statistics_pool(np.ones_like(FRAMES), mask)).all()


def test_the_layer_sum_starts_as_the_mean_and_learns_its_weights() -> None:
    states = [jnp.asarray(noise(2, 15, seed).reshape(2, 5, 3)) for seed in range(3)]
    layer_sum = WeightedLayerSum(3, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(np.asarray(layer_sum(states)), np.mean(states, axis=0), atol=1e-6)
    layer_sum.weights[...] = jnp.asarray([0.0, 20.0, 0.0])
    np.testing.assert_allclose(np.asarray(layer_sum(states)), states[1], atol=1e-5)
    graph, state = nnx.split(layer_sum)
    gradient = jax.grad(lambda state: jnp.sum(nnx.merge(graph, state)(states)))(state)
    assert np.any(np.asarray(jax.tree.leaves(gradient)[0]))


def test_normalized_hidden_states_have_equal_scales() -> None:
    state = jnp.asarray(noise(2, 15).reshape(2, 5, 3))
    layer_sum = WeightedLayerSum(2, normalize=True, rngs=nnx.Rngs(0))
    found = np.asarray(layer_sum([state, 1000 * state]))
    centred = np.asarray(state) - np.asarray(state).mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(found, centred / centred.std(axis=-1, keepdims=True), atol=1e-3)


def test_another_number_of_hidden_states_is_refused() -> None:
    with pytest.raises(ValueError, match="weights for 3 hidden states, but 2 were given"):
        WeightedLayerSum(3, rngs=nnx.Rngs(0))([jnp.zeros((1, 2, 3))] * 2)


@pytest.mark.usefixtures("annotations_unchecked")
def test_frames_and_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"frames of shape \(batch, frames, width\), found \(10, 6\)"):
        mean_pool(FRAMES[0])
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 10\), one value for each frame, found \(2, 9\)"):
        statistics_pool(FRAMES, MASK[:, :9])
