"""What is worked out once, of weights or of a trace: the same answers, and the network as it was."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from spectra_jax import Scorer, load
from spectra_jax.checkpoints.native import Checkpoint, held_model, load_model
from spectra_jax.model.layers import BatchNorm
from spectra_jax.model.spectra import folded, split, split_with_rank_gaps
from spectra_jax.model.wav2vec2 import TransformerLayer
from tests.conftest import expected, golden_windows
from tests.tolerances import LOGITS


@pytest.mark.parametrize("pure", [split, split_with_rank_gaps])
def test_the_answers_are_the_same(tiny_checkpoint: Checkpoint, pure) -> None:
    """Of the branches one after another in a loop, and tapped one by one."""
    windows = golden_windows(expected("tiny")["waveforms"][:2])
    with jax.enable_x64(True):
        model = load_model(tiny_checkpoint, "float64")
        answers = []
        for network in (model, folded(model)):
            forward, params = pure(network)
            answers.append(np.asarray(jax.jit(forward)(params, windows)))
    np.testing.assert_allclose(answers[1], answers[0], rtol=0, atol=LOGITS["float64"])


def test_the_network_is_left_as_it_was() -> None:
    """A scorer's network can be trained and saved, whether the scorer read it or was given it."""
    read = Scorer("demo").model
    leaves = jax.tree.leaves(split(load("demo"))[1])
    for scorer in (Scorer("demo"), Scorer(read)):
        scorer.load()
        # What scores is another one, and holds less.
        assert len(scorer._network.params) < len(leaves)
        for found, leaf in zip(jax.tree.leaves(split(scorer.model)[1]), leaves, strict=True):
            np.testing.assert_array_equal(found, leaf)


def test_the_encoder_s_weights_are_held_once() -> None:
    model = load("demo")
    ours, theirs = (jax.tree.leaves(nnx.state(network.encoder)) for network in (folded(model), model))
    assert all(one is other for one, other in zip(ours, theirs, strict=True))


def test_weights_that_layers_share_are_folded_for_each() -> None:
    models = [load("demo") for _ in range(2)]
    for model, share in zip(models, (True, False), strict=True):
        first, second = model.aasist.gat_s.attended_projection, model.aasist.gat_s.node_projection
        weight = first.spline_weight
        second.spline_weight = weight if share else nnx.Param(weight.get_value())
    tied, apart = (folded(model).aasist.gat_s for model in models)
    for name in ("attended_projection", "node_projection"):
        found, right = (getattr(layer, name).spline_weight.get_value() for layer in (tied, apart))
        np.testing.assert_array_equal(found, right)


def test_a_class_of_the_caller_s_own_is_left_alone() -> None:
    class Own(BatchNorm):
        def __call__(self, x: jax.Array) -> jax.Array:
            return (x - self.mean[...]) / jax.numpy.sqrt(self.var[...])

    model = load("demo")
    model.aasist.gat_s.norm = Own(model.config.gat_dims[0], precision=model.aasist.gat_s.precision, rngs=nnx.Rngs(0))
    assert folded(model) is model


def test_what_a_layer_of_the_caller_s_own_changes_is_kept() -> None:
    """The encoder's layers are traced once for all, but for those that hold more than weights."""

    class Counting(TransformerLayer):
        def __call__(self, x: jax.Array) -> jax.Array:
            self.calls[...] = self.calls[...] + 1
            return super().__call__(x)

    encoder = load("demo").encoder
    encoder.layers[0] = Counting(encoder.config, precision=encoder.precision, rngs=nnx.Rngs(0))
    encoder.layers[0].calls = nnx.BatchStat(jax.numpy.zeros((), np.int32))
    for _ in range(2):
        encoder(jax.numpy.ones((1, encoder.config.num_samples(3))))
    assert encoder.layers[0].calls[...] == 2


def test_float64_needs_its_mode(tiny_checkpoint: Checkpoint) -> None:
    """Half of it would be float32 otherwise."""
    with jax.enable_x64(True):
        model = load_model(tiny_checkpoint, "float64")
    with pytest.raises(ValueError, match="x64"):
        folded(model)


def test_shapes_fold_to_the_shapes_of_what_is_folded(tiny_checkpoint: Checkpoint) -> None:
    """What is compiled from shapes while the weights are read has to fit them."""
    for precision in ("float32", "bfloat16"):
        shapes, weights = (
            nnx.split(folded(network))
            for network in (held_model(tiny_checkpoint.config, precision), load_model(tiny_checkpoint, precision))
        )
        assert shapes[0] == weights[0]
        found, held = (
            {path: (leaf.shape, leaf.dtype) for path, leaf in jax.tree.leaves_with_path(state)}
            for state in (weights[1], shapes[1])
        )
        assert found == held
