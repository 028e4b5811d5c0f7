"""What XLA makes of the published network in bfloat16 and float16: which kernels, in which dtype."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from spectra_jax.checkpoints.load import abstract_inference_model
from spectra_jax.inference import compilation_cache
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.functional import split
from tests.gpu.conftest import Submit
from tests.gpu.hlo import Program

pytestmark = pytest.mark.gpu

PRECISIONS = ["bfloat16", "float16"]
BATCH = 16
CONFIG = SpectraConfig()


def compile_model(model: nnx.Module) -> Program:
    forward, params, rest = split(model)
    windows = jax.ShapeDtypeStruct((BATCH, CONFIG.num_samples), np.float32)
    # An executable from JAX's cache may lack its text.
    with compilation_cache.disabled():
        text = jax.jit(forward).lower(params, rest, windows).compile().as_text()
    assert text is not None
    return Program.parse(text)


@pytest.fixture(scope="module")
def encoders(background: Submit) -> dict[str, Program]:
    """The published encoder, without weights, by its precision."""
    futures = {
        precision: background(compile_model, abstract_inference_model(CONFIG, precision).encoder)
        for precision in PRECISIONS
    }
    return {precision: future.result() for precision, future in futures.items()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_layer_attends_by_cudnn(encoders: dict[str, Program], precision: str) -> None:
    program = encoders[precision]
    calls = [
        instruction
        for computation in program.computations.values()
        for instruction in computation.values()
        if instruction.target.startswith("__cudnn$fmha")
    ]
    assert len(calls) == CONFIG.encoder.num_hidden_layers, program.targets()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_product_of_the_encoder_runs_in_float32(encoders: dict[str, Program], precision: str) -> None:
    narrow = {"bfloat16": "bf16", "float16": "f16"}[precision]
    products = list(encoders[precision].products())
    print(precision, "custom calls:", sorted(encoders[precision].targets()))
    # Four projections and two linear layers in each layer of the transformer, at least where none are joined.
    assert len(products) >= CONFIG.encoder.num_hidden_layers, products
    wide = [instruction.line.strip()[:300] for dtypes, instruction in products if dtypes != {narrow}]
    assert not wide, "\n".join([f"{len(wide)} of {len(products)} products:", *wide])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_matrix_is_transposed(encoders: dict[str, Program], precision: str) -> None:
    """Kernels of convolutions are, to the layout of cuDNN: 10 MB in all."""
    moved = [
        f"{parameter.dtype}{list(parameter.shape)}: {instruction.line.strip()[:300]}"
        for parameter, instruction in encoders[precision].transposed_parameters(min_size=100_000)
        if len(parameter.shape) == 2 and parameter.shape != (BATCH, CONFIG.num_samples)
    ]
    assert not moved, "\n".join([f"{len(moved)} transpositions:", *moved])
