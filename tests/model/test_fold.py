"""Folding for inference: the same logits, and the original network unchanged."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest
from flax import nnx

from spectra_jax import Scorer, load
from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import abstract_inference_model, load_model
from spectra_jax.inference.engine import CompiledEngine
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.functional import SplitModel, split
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.norms import BatchNorm
from spectra_jax.model.spectra import SpectraAASIST3, split_with_rank_gaps
from tests.conftest import expected, golden_windows
from tests.tolerances import LOGITS


@pytest.mark.slow
@pytest.mark.parametrize("pure", [pytest.param(split, marks=pytest.mark.long), split_with_rank_gaps])
def test_folding_keeps_the_logits(tiny_checkpoint: Checkpoint, pure: Callable[[SpectraAASIST3], SplitModel]) -> None:
    """With the branches in a loop, and with a hook, which runs them one by one."""
    windows = golden_windows(expected("tiny")["waveforms"][:2])
    with jax.enable_x64(True):
        model = load_model(tiny_checkpoint, "float64")
        logits = []
        for network in (model, fold_for_inference(model)):
            forward, params, rest = pure(network)
            logits.append(np.asarray(jax.jit(forward)(params, rest, windows)))
    np.testing.assert_allclose(logits[1], logits[0], rtol=0, atol=LOGITS["float64"])


def test_a_scorer_keeps_the_unfolded_network() -> None:
    """The network of a scorer can be trained and saved, whether the scorer loaded it or received it."""
    read = Scorer("demo").model
    leaves = jax.tree.leaves(nnx.state(load("demo")))
    for scorer in (Scorer("demo"), Scorer(read)):
        scorer.load()
        # The folded network has fewer weights.
        engine = scorer.engine
        assert isinstance(engine, CompiledEngine)
        assert len(engine.params) < len(leaves)
        for found, leaf in zip(jax.tree.leaves(nnx.state(scorer.model)), leaves, strict=True):
            np.testing.assert_array_equal(found, leaf)


def test_the_weights_of_the_encoder_are_shared() -> None:
    model = load("demo")
    ours, theirs = (jax.tree.leaves(nnx.state(network.encoder)) for network in (fold_for_inference(model), model))
    assert all(one is other for one, other in zip(ours, theirs, strict=True))


def test_weights_that_two_layers_share_are_folded_for_each() -> None:
    models = [load("demo") for _ in range(2)]
    for model, share in zip(models, (True, False), strict=True):
        first, second = model.aasist.gat_s.attended_projection, model.aasist.gat_s.node_projection
        assert isinstance(first, KANLinear) and isinstance(second, KANLinear)
        weight = first.spline_weight
        second.spline_weight = weight if share else nnx.Param(weight.get_value())
    tied, apart = (fold_for_inference(model).aasist.gat_s for model in models)
    for name in ("attended_projection", "node_projection"):
        found, right = (getattr(layer, name).spline_weight.get_value() for layer in (tied, apart))
        np.testing.assert_array_equal(found, right)


def test_a_network_with_a_class_of_the_user_is_not_folded() -> None:
    class Own(BatchNorm):
        def __call__(self, x: jax.Array) -> jax.Array:
            assert self.var is not None
            return (x - self.mean[...]) / jax.numpy.sqrt(self.var[...])

    model = load("demo")
    model.aasist.gat_s.norm = Own(model.config.gat_dims[0], precision=model.aasist.gat_s.precision, rngs=nnx.Rngs(0))
    assert fold_for_inference(model) is model


def test_folding_in_float64_needs_x64(tiny_checkpoint: Checkpoint) -> None:
    """Without x64, some weights would be float32."""
    with jax.enable_x64(True):
        model = load_model(tiny_checkpoint, "float64")
    with pytest.raises(ValueError, match="x64"):
        fold_for_inference(model)


def test_an_abstract_network_folds_to_the_shapes_of_the_folded_weights(tiny_checkpoint: Checkpoint) -> None:
    """A program is compiled for the abstract network while the weights are read."""
    for precision in ("float32", "bfloat16", "int8"):
        shapes, weights = (
            nnx.split(fold_for_inference(network))
            for network in (
                abstract_inference_model(tiny_checkpoint.config, precision),
                load_model(tiny_checkpoint, precision),
            )
        )
        assert shapes[0] == weights[0]
        found, expected_shapes = (
            {path: (leaf.shape, leaf.dtype) for path, leaf in jax.tree.leaves_with_path(state)}
            for state in (weights[1], shapes[1])
        )
        assert found == expected_shapes
