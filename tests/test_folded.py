"""The network with what goes by its weights alone worked out once: the same answers, and the network as it was."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from spectra_jax import Scorer, load
from spectra_jax.checkpoint import Checkpoint, held_model, load_model
from spectra_jax.model.spectra import folded, split, split_with_rank_gaps
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
        for found, leaf in zip(jax.tree.leaves(split(scorer.model)[1]), leaves, strict=True):
            np.testing.assert_array_equal(found, leaf)


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
