"""Gradients in float64: against PyTorch's autograd, against finite differences, and in one step of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from spectra_jax.checkpoints.checkpoint import weight_shapes
from spectra_jax.convert import expand
from spectra_jax.convert.table import POSITIONAL, WEIGHT_NORM
from spectra_jax.model.config import KANConfig, SpectraConfig
from spectra_jax.model.functional import split
from spectra_jax.model.graph import GraphPool, smallest_rank_gap
from spectra_jax.model.kan import KANLinear, _bspline_basis_uneven, bspline_basis, knots
from spectra_jax.model.precision import PRECISIONS
from spectra_jax.model.spectra import SpectraAASIST3, split_with_rank_gaps
from spectra_jax.training import TrainingConfig
from spectra_jax.training.sharding import Layout
from spectra_jax.training.step import (
    Examples,
    Network,
    decays,
    first_state,
    learning_rates,
    make_optimizer,
    make_step,
)
from tests.model.test_parity import NETWORKS, build, windows
from tests.training.runs import MODEL

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("unoptimized")]

LABELS = np.array([0, 1, 1, 0])
CLASS_WEIGHTS = np.array([0.3, 1.7])
# As a share of each gradient's largest element. The logits agree to 4e-14, and a backward pass adds sums as long.
TOLERANCE = 1e-9


@pytest.mark.slow
def test_every_gradient_is_autograds(tmp_path: Path) -> None:
    """Gradients of a class-weighted cross entropy, with batch statistics and without dropout."""
    config, samples = NETWORKS["odd sizes"]
    x = windows(samples, range(len(LABELS)))
    with jax.enable_x64(True):
        model, oracle = build(tmp_path, config, seed=8)
        model.set_attributes(use_running_average=False)
        graph, *states = nnx.split(model, nnx.Param, ...)
        params, rest = states

        @jax.jit
        @jax.value_and_grad
        def loss_and_gradients(params: nnx.State[Any, Any], rest: nnx.State[Any, Any], x: jax.Array) -> jax.Array:
            # A copy, since batch norms write to their statistics in training.
            logits = nnx.merge(graph, params, rest, copy=True)(x)
            weight = jnp.asarray(CLASS_WEIGHTS)[LABELS]
            losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), LABELS[:, None], axis=1)[:, 0]
            return jnp.sum(weight * losses) / jnp.sum(weight)

        loss, gradients = loss_and_gradients(params, rest, x)
        ours = {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(gradients)}

    oracle.train()
    for module in oracle.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    cost = torch.nn.functional.cross_entropy(
        oracle(torch.from_numpy(x).double()), torch.from_numpy(LABELS), torch.from_numpy(CLASS_WEIGHTS)
    )
    cost.backward()
    assert float(loss) == pytest.approx(float(cost.detach()), abs=1e-12)
    theirs = {key: value.grad.numpy() for key, value in oracle.named_parameters() if value.grad is not None}

    compared = set()
    for entry in expand(model.config, weight_shapes(model.config)):
        if entry.source in theirs:
            expected = theirs[entry.source].transpose(entry.axes)
            _close(ours[entry.target], expected, entry.source)
            compared.add(entry.target)
    # The kernel of the positional convolution is the product of two tensors in PyTorch, each with its own gradient.
    (kernel,) = set(ours) - compared
    assert POSITIONAL.endswith("pos_conv_embed.conv") and kernel == "encoder.positional_convolution.conv.kernel"
    by_kernel = ours[kernel].transpose(2, 1, 0)
    values = dict(oracle.named_parameters())
    g, v = (values[part].detach().numpy() for part in WEIGHT_NORM)
    norm = np.sqrt(np.sum(v**2, axis=(0, 1), keepdims=True))
    along = np.sum(by_kernel * v, axis=(0, 1), keepdims=True) / norm
    _close(along, theirs[WEIGHT_NORM[0]], WEIGHT_NORM[0])
    _close(g / norm * (by_kernel - along * v / norm), theirs[WEIGHT_NORM[1]], WEIGHT_NORM[1])


@pytest.mark.long
def test_one_step_is_pytorchs(tmp_path: Path) -> None:
    """AdamW with a rate for the encoder and one for the rest, and weight decay where it belongs."""
    config, samples = NETWORKS["odd sizes"]
    x = windows(samples, range(len(LABELS)))
    training = TrainingConfig.from_dict(
        {
            "steps": 10,
            "warmup_steps": 0,
            "batch_size": 4,
            "precision": "float64",
            "dropout": 0.0,
            "learning_rate": 1e-3,
            "encoder_learning_rate": 2e-4,
            "weight_decay": 0.1,
            "clip_norm": None,
        }
    )
    with jax.enable_x64(True):
        model, oracle = build(tmp_path, config, seed=8)
        network = Network(model.config, "float64", training)
        optimizer = make_optimizer(training)
        layout = Layout.of(None, jax.devices()[:1])
        state, frozen = first_state(network, network.leaves(model), training, optimizer, layout)
        step = make_step(model.config, training, optimizer, layout)
        examples = Examples(x[None].astype(np.float64), LABELS[None].astype(np.int32), CLASS_WEIGHTS[LABELS][None])
        state, _ = step(state, frozen, examples, learning_rates(training, 0), jax.random.key(0, impl="rbg"))
        ours = {path: np.asarray(leaf) for path, leaf in {**state.trained, **state.statistics}.items()}

    oracle.train()
    for module in oracle.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    entries = {entry.source: entry for entry in expand(model.config, weight_shapes(model.config))}
    groups = []
    for key, value in oracle.named_parameters():
        target = entries[key].target if key in entries else "encoder."
        rate = training.encoder_learning_rate if target.startswith("encoder.") else training.learning_rate
        groups.append({"params": [value], "lr": rate, "weight_decay": 0.1 if decays(target) else 0.0})
    descent = torch.optim.AdamW(groups)
    torch.nn.functional.cross_entropy(
        oracle(torch.from_numpy(x).double()), torch.from_numpy(LABELS), torch.from_numpy(CLASS_WEIGHTS)
    ).backward()
    gradients = {key: value.grad for key, value in oracle.named_parameters()}
    descent.step()

    compared = 0
    for key, value in oracle.state_dict().items():
        if key not in entries or entries[key].target not in ours:
            continue
        entry = entries[key]
        expected = value.numpy().transpose(entry.axes)
        found = ours[entry.target]
        if key in gradients:
            # The first step of AdamW divides each gradient by its size: one that is only rounding gives a random step.
            gradient = gradients[key]
            assert gradient is not None
            real = np.abs(gradient.numpy().transpose(entry.axes)) > 1e-12
            expected, found = expected[real], found[real]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8, err_msg=key)
        compared += 1
    # All but the positional kernel, which is the product of two parameters in the oracle.
    assert compared >= len(ours) - 1


def test_kan_linear_by_differences() -> None:
    with jax.enable_x64(True):
        layer = KANLinear(3, 4, KANConfig(), precision=PRECISIONS["float64"], rngs=nnx.Rngs(0))
        x = jnp.asarray(np.random.default_rng(1).uniform(-1.7, 1.7, (5, 3)))
        graph, params = nnx.split(layer)
        # Analytical against central differences of 1e-6, which are right to about 1e-9 of the values.
        check_grads(
            jax.jit(lambda params, x: nnx.merge(graph, params)(x)), (params, x), order=1, modes=["rev"], rtol=1e-6
        )


def test_graph_pool_gradient_against_finite_differences() -> None:
    with jax.enable_x64(True):
        pool = GraphPool(4, 0.5, kan=KANConfig(), precision=PRECISIONS["float64"], rngs=nnx.Rngs(0))
        x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 7, 4)))
        graph, params = nnx.split(pool)
        gap = smallest_rank_gap(jax.nn.sigmoid(pool.projection(x))[..., 0], 0.5)
        # The pool is discontinuous at ties: the differences must not cross one.
        assert float(gap.min()) > 1e-4
        check_grads(
            jax.jit(lambda params, x: nnx.merge(graph, params)(x)), (params, x), order=1, modes=["rev"], rtol=1e-6
        )


@pytest.mark.long
@pytest.mark.slow
def test_tiny_network_by_differences() -> None:
    with jax.enable_x64(True):
        config = SpectraConfig.from_dict(MODEL)
        model = SpectraAASIST3(config, precision="float64", rngs=nnx.Rngs(params=2))
        x = jnp.asarray(np.random.default_rng(3).standard_normal((2, config.num_samples)) * 0.1)
        forward, params, rest = split(model)
        diagnosed = split_with_rank_gaps(model)[0](params, rest, x)
        assert float(diagnosed[:, 2:].min()) > 1e-6
        # The step is so small that no ranking of a pool and no maximum changes.
        check_grads(
            jax.jit(lambda params: forward(params, rest, x)),
            (params,),
            order=1,
            modes=["rev"],
            eps=1e-8,
            rtol=1e-4,
            atol=1e-5,
        )


def test_closed_form_of_the_splines_has_the_gradient_of_the_recursion() -> None:
    config = KANConfig()
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).uniform(-1.6, 1.6, 400))
        weight = jnp.asarray(np.random.default_rng(1).standard_normal((400, config.num_bases)))
        points = knots(config).astype(np.float64)
        closed = jax.grad(lambda x: jnp.sum(weight * bspline_basis(x, config)))(x)
        recursion = jax.grad(lambda x: jnp.sum(weight * _bspline_basis_uneven(x, points, config.spline_order)))(x)
        np.testing.assert_allclose(closed, recursion, rtol=0, atol=1e-11)
        assert np.abs(np.asarray(closed)).max() > 1


def _close(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    # The bias of the keys does not change a softmax: some gradients are zero, apart from rounding.
    size = max(np.abs(expected).max(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * size, err_msg=name)
