"""Spectra-AASIST and Spectra-0 against the PyTorch oracle: logits, gradients and batch statistics in float64."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from spectra_jax.checkpoints.checkpoint import weight_shapes
from spectra_jax.checkpoints.family import FAMILY
from spectra_jax.checkpoints.load import load_model
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.convert import expand
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.functional import split
from tests.published_detectors import SMALL, published_tensors, small, write_small

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
pytest.importorskip("transformers", reason="needs the extra `parity` (torch, transformers)")

from tests.oracle import spectra_torch  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("unoptimized")]

WINDOWS = np.random.default_rng(3).standard_normal((3, 4000)).astype(np.float32) * 0.1
GRAPH = pytest.param("aasist", marks=pytest.mark.long)  # its gradients take eight seconds to compile


def both(back_end: str, folder: Path) -> tuple[Any, Any]:
    """Our network and the oracle with the weights of one file, in float64."""
    write_small(back_end, folder)
    with jax.enable_x64(True):
        ours = load_model(open_checkpoint(folder), "float64")
    theirs = spectra_torch.load_oracle(SMALL | {"back_end": back_end}, load_file(folder / "model.safetensors"))
    return ours, theirs


@pytest.mark.parametrize("back_end", ["aasist", "ecapa-tdnn"])
def test_published_names_and_shapes_are_the_oracles(back_end: str) -> None:
    wanted = spectra_torch.checkpoint_shapes({"back_end": back_end})
    found = {name: spec.shape for name, spec in published_tensors(FAMILY[back_end].config).items()}
    assert found == wanted


@pytest.mark.parametrize("back_end", ["aasist", "ecapa-tdnn"])
def test_logits_are_the_oracles(back_end: str, tmp_path: Path) -> None:
    ours, theirs = both(back_end, tmp_path / "model")
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(WINDOWS).double()).numpy()
    with jax.enable_x64(True):
        forward, *arguments = split(ours)
        found = np.asarray(jax.jit(forward)(*arguments, WINDOWS))
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_frames_that_do_not_change_are_pooled_as_in_the_oracle(tmp_path: Path) -> None:
    """Variances below the smallest one."""
    ours, theirs = both("ecapa-tdnn", tmp_path / "model")
    frame = np.random.default_rng(4).standard_normal((2, 1, 12))
    x = np.repeat(frame, 9, axis=1)
    with torch.no_grad():
        wanted = theirs.ecapa_tdnn(torch.from_numpy(x)).numpy()
    with jax.enable_x64(True):

        @jax.jit
        @functools.partial(jax.grad, has_aux=True)
        def gradient_and_logits(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = ours.ecapa_tdnn(x)
            return logits[:, 1].sum(), logits

        gradient, logits = gradient_and_logits(jnp.asarray(x))
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-12)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("back_end", [GRAPH, "ecapa-tdnn"])
def test_gradients_and_statistics_of_training_are_the_oracles(back_end: str, tmp_path: Path) -> None:
    """With batch statistics and without dropout."""
    ours, theirs = both(back_end, tmp_path / "model")
    direction = np.array([0.3, -1.7])
    with jax.enable_x64(True):
        ours.set_attributes(use_running_average=False)
        parts: Any = nnx.split(ours, nnx.Param, ...)
        graph, params, rest = parts

        def score(params: Any, rest: Any, x: jax.Array) -> tuple[jax.Array, Any]:
            model = nnx.merge(graph, params, rest, copy=True)
            return jnp.sum(model(x) * direction), nnx.state(model, nnx.BatchStat)

        by_weight, statistics = jax.jit(jax.grad(score, has_aux=True))(params, rest, WINDOWS)
        leaves = [*nnx.to_flat_state(by_weight), *nnx.to_flat_state(statistics)]
        found = {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in leaves}

    theirs.train()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    (theirs(torch.from_numpy(WINDOWS).double()) * torch.from_numpy(direction)).sum().backward()
    wanted = {name: value.grad.numpy() for name, value in theirs.named_parameters()}
    wanted |= {name: value.numpy() for name, value in theirs.named_buffers()}

    compared = 0
    config = small(back_end)
    for entry in expand(config, weight_shapes(config)):
        # The kernel of the positional convolution is the product of two tensors in PyTorch.
        if entry.source in wanted:
            expected = wanted[entry.source].transpose(entry.axes)
            largest = max(float(np.abs(expected).max()), 1.0)
            np.testing.assert_allclose(
                found[entry.target], expected, rtol=0, atol=1e-10 * largest, err_msg=entry.source
            )
            compared += 1
    assert compared == len(found) - 1


def test_the_oracle_takes_the_published_sizes_as_defaults() -> None:
    assert SpectraConfig(back_end="ecapa-tdnn").ecapa.to_dict() == json.loads(json.dumps(spectra_torch.ECAPA))
