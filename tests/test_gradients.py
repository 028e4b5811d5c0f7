"""Gradients of the whole network against PyTorch's autograd, in float64: what training it would follow."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spectra_jax.checkpoint import leaf_shapes
from spectra_jax.convert import expand
from spectra_jax.convert.table import POSITIONAL, WEIGHT_NORM
from tests.test_oracle_live import NETWORKS, build, windows

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")

LABELS = np.array([0, 1, 1, 0])
CLASS_WEIGHTS = np.array([0.3, 1.7])
# As a share of each gradient's largest element. The logits agree to 4e-14, and a backward pass adds sums as long.
TOLERANCE = 1e-9


@pytest.mark.slow
def test_every_gradient_is_autograds(tmp_path: Path) -> None:
    """Of a class-weighted cross entropy, on batch statistics and without dropout."""
    config, samples = NETWORKS["odd sizes"]
    x = windows(samples, range(len(LABELS)))
    with jax.enable_x64(True):
        model, oracle = build(tmp_path, config, seed=8)
        model.set_attributes(use_running_average=False)
        graph, params, rest = nnx.split(model, nnx.Param, ...)

        @jax.jit
        @jax.value_and_grad
        def loss_and_gradients(params: nnx.State, rest: nnx.State, x: jax.Array) -> jax.Array:
            # Copies, since batch norms that train write to their statistics in here.
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
    for entry in expand(model.config, leaf_shapes(model.config)):
        if entry.source in theirs:
            wanted = theirs[entry.source].transpose(entry.axes)
            _close(ours[entry.target], wanted, entry.source)
            compared.add(entry.target)
    # The kernel of the positional convolution is the product of a pair, and so are its gradients.
    (kernel,) = set(ours) - compared
    assert POSITIONAL.endswith("pos_conv_embed.conv") and kernel == "encoder.positional_convolution.conv.kernel"
    by_kernel = ours[kernel].transpose(2, 1, 0)
    values = dict(oracle.named_parameters())
    g, v = (values[part].detach().numpy() for part in WEIGHT_NORM)
    norm = np.sqrt(np.sum(v**2, axis=(0, 1), keepdims=True))
    along = np.sum(by_kernel * v, axis=(0, 1), keepdims=True) / norm
    _close(along, theirs[WEIGHT_NORM[0]], WEIGHT_NORM[0])
    _close(g / norm * (by_kernel - along * v / norm), theirs[WEIGHT_NORM[1]], WEIGHT_NORM[1])


def _close(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    # A softmax does not see the bias of its keys: some gradients are zero but for rounding.
    size = max(np.abs(wanted).max(), 1e-3)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * size, err_msg=name)
