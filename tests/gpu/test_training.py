"""A training step on the GPU is that of the CPU."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from spectra_jax.model.encoder import SpeechEncoder
from tests.gpu.conftest import Submit
from tests.model.encoder.small import noise, small_config
from tests.training.runs import config
from tests.training.steps import HALVES, take_step

pytestmark = pytest.mark.gpu

BACK_ENDS = ["pool+linear", "kan-aasist"]

Steps = dict[str, Future[tuple[float, float]]]


def reported(device: jax.Device, back_end: str, options: dict[str, Any]) -> tuple[float, float]:
    """The loss and the norm of the gradients of a step without dropout."""
    with jax.default_device(device):
        _, _, report = take_step(config(back_end, dropout=0.0, **options), *HALVES, devices=[device])
    return float(report.loss), float(report.gradient_norm)


def check_step(found: tuple[float, float], wanted: tuple[float, float], *, loss: float, gradient_norm: float) -> None:
    """Check the loss and the norm of the gradients, each to its relative tolerance."""
    np.testing.assert_allclose(found[0], wanted[0], rtol=loss, err_msg="loss")
    np.testing.assert_allclose(found[1], wanted[1], rtol=gradient_norm, err_msg="norm of the gradients")


@pytest.fixture(scope="module", params=BACK_ENDS)
def steps(request: pytest.FixtureRequest, background: Submit, gpu: jax.Device, cpu: jax.Device) -> Steps:
    steps: dict[str, tuple[jax.Device, dict[str, Any]]] = {
        "CPU": (cpu, {}),
        "GPU": (gpu, {}),
        "GPU, remat": (gpu, {"remat": True}),
        "GPU, bfloat16": (gpu, {"precision": "bfloat16"}),
        "GPU, bfloat16, remat": (gpu, {"precision": "bfloat16", "remat": True}),
    }
    return {name: background(reported, device, request.param, options) for name, (device, options) in steps.items()}


def test_a_float32_step_is_that_of_the_cpu(steps: Steps) -> None:
    print({name: step.result() for name, step in steps.items()})
    # Sums in another order: ten times what different micro-batches change on one device.
    check_step(steps["GPU"].result(), steps["CPU"].result(), loss=1e-4, gradient_norm=1e-3)


def test_recomputed_layers_give_the_same_step(steps: Steps) -> None:
    check_step(steps["GPU, remat"].result(), steps["GPU"].result(), loss=1e-5, gradient_norm=1e-3)
    # The compiler may keep more digits of what it fuses.
    found, wanted = steps["GPU, bfloat16, remat"].result(), steps["GPU, bfloat16"].result()
    check_step(found, wanted, loss=1e-2, gradient_norm=0.1)


def test_a_bfloat16_step_is_close(steps: Steps) -> None:
    found = steps["GPU, bfloat16"].result()
    assert np.isfinite(found).all()
    # As on a CPU, where the loss differs by less than 0.05.
    check_step(found, steps["CPU"].result(), loss=0.07, gradient_norm=0.25)


@pytest.mark.parametrize("samples", [200, 208])
def test_gradients_of_cudnn_attention_are_those_of_the_cpu(samples: int, gpu: jax.Device, cpu: jax.Device) -> None:
    """Of an odd and an even number of frames: JAX differentiates the kernel for an even one only."""
    graph, state = nnx.split(
        SpeechEncoder(small_config(hidden_size=32, num_attention_heads=2), precision="bfloat16", rngs=nnx.Rngs(0))
    )
    assert {small_config().num_frames(200) % 2, small_config().num_frames(208) % 2} == {0, 1}
    factors = noise(32, 1)[:, 0]

    @jax.jit
    def gradient(state: Any, x: jax.Array) -> Any:
        return jax.grad(lambda state: (nnx.merge(graph, state)(x) * factors).mean())(state)

    assert "__cudnn$fmhaSoftmaxBackward" in gradient.lower(state, noise(4, samples)).as_text()
    found, wanted = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient(*jax.device_put(arguments, device)))])
        for device, arguments in ((device, (state, noise(4, samples))) for device in (gpu, cpu))
    )
    assert np.isfinite(found).all()
    # Both round to bfloat16, whose unit is 0.4 %, at different steps.
    assert np.linalg.norm(found - wanted) <= 0.05 * np.linalg.norm(wanted)
