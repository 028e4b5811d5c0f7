"""The encoder's layers, and the lengths that it refuses. Its values: see test_encoder_parity.py."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from spectra_jax.checkpoints.resolve import load
from spectra_jax.model.encoder import TransformerLayer


def test_a_layer_of_a_class_of_the_user_can_change_its_state() -> None:
    """All encoder layers share one trace, apart from those that have more than weights."""

    class Counting(TransformerLayer):
        calls: nnx.BatchStat[jax.Array]

        def __call__(self, x: jax.Array) -> jax.Array:
            self.calls[...] = self.calls[...] + 1
            return super().__call__(x)

    encoder = load("demo").encoder
    counting = Counting(encoder.config, precision=encoder.precision, rngs=nnx.Rngs(0))
    counting.calls = nnx.BatchStat(jax.numpy.zeros((), np.int32))
    encoder.layers[0] = counting
    for _ in range(2):
        encoder(jax.numpy.ones((1, encoder.config.num_samples(3))))
    assert counting.calls[...] == 2


@pytest.mark.usefixtures("annotations_unchecked")
def test_a_waveform_that_the_encoder_does_not_take_is_refused() -> None:
    encoder = load("demo").encoder
    shortest = encoder.config.num_samples(1)
    with pytest.raises(ValueError, match=rf"a waveform of {shortest - 1} samples is too short: .* {shortest} samples"):
        encoder(np.ones((1, shortest - 1), np.float32))
    with pytest.raises(ValueError, match=r"expected waveforms of shape \(batch, samples\), found \(400,\)"):
        encoder(np.ones(400, np.float32))
