"""The lowered program for each platform: lowering needs no device of it."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from jax._src.cudnn import fused_attention_stablehlo

from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.checkpoints.load import abstract_inference_model
from spectra_jax.model import kan
from spectra_jax.model.aasist import NUM_BRANCHES
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.encoder import SpeechEncoder, attention
from spectra_jax.model.functional import split
from spectra_jax.model.platform import for_platform
from spectra_jax.model.spectra import SpectraAASIST3
from tests.conftest import GOLDEN
from tests.model.encoder.small import noise, small_config

TINY = read_config(GOLDEN / "tiny" / "config.json")


@functools.cache
def lowered(config: SpectraConfig, precision: str, platform: str) -> str:
    """The StableHLO of the complete scoring function for a platform."""
    return lower(abstract_network(config, precision), precision, platform)


def abstract_network(config: SpectraConfig, precision: str) -> SpectraAASIST3:
    with jax.enable_x64(precision == "float64"):
        return abstract_inference_model(config, precision)


def lower(
    model: nnx.Module, precision: str, platform: str, batch_size: int = 2, num_samples: int = TINY.num_samples
) -> str:
    """The StableHLO of a network, or of its encoder, for a platform."""
    with jax.enable_x64(precision == "float64"):
        forward, params, rest = split(model)
        windows = jax.ShapeDtypeStruct((batch_size, num_samples), np.float32)
        # JAX does not promise a stable cuDNN call, which an exported program would need.
        allowed = [export.DisabledSafetyCheck.custom_call("__cudnn$fmhaSoftmax")]
        exported = export.export(jax.jit(forward), platforms=[platform], disabled_checks=allowed)
        return exported(params, rest, windows).mlir_module()


@pytest.fixture
def cudnn_attention(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process with a GPU that has cuDNN's attention."""
    monkeypatch.setattr(attention, "has_cudnn_attention", lambda: True)
    # JAX reads the version of cuDNN while tracing.
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    # The traces of layers are cached.
    jax.clear_caches()
    yield
    jax.clear_caches()


class Product(NamedTuple):
    """A matrix product or a convolution: its operation, the dtypes of its operands and its precision."""

    operation: str
    left: str
    right: str
    precision: str


def products(text: str) -> Iterator[Product]:
    """Every matrix product and convolution of a StableHLO program."""
    for line in text.splitlines():
        if operation := re.search(r"stablehlo\.(dot_general|convolution)", line):
            precision = re.search(r"precision(?:_config)? = \[(?:#stablehlo<precision )?(\w+)", line)
            operands = re.search(r": \(tensor<(?:\d+x)*(\w+)>, tensor<(?:\d+x)*(\w+)>", line)
            assert operands, line
            yield Product(operation[1], operands[1], operands[2], precision[1] if precision else "DEFAULT")


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(
    ("precision", "operand", "asked"),
    [
        # HIGHEST keeps float32 from TF32 on NVIDIA GPUs and from bfloat16 passes on TPUs.
        ("float32", "f32", "HIGHEST"),
        ("tf32", "f32", "HIGH"),
        ("bfloat16", "bf16", "DEFAULT"),
        ("float16", "f16", "DEFAULT"),
        ("float64", "f64", "HIGHEST"),
    ],
)
def test_products_have_the_operands_of_the_precision(precision: str, operand: str, asked: str, platform: str) -> None:
    """All of the encoder have those of the precision, and all after it are float32 or float64 in full."""
    if precision == "float64" and platform == "tpu":
        pytest.skip("TPUs do not compute float64")
    text = lowered(TINY, precision, platform)
    encoder = Counter(products(lower(abstract_network(TINY, precision).encoder, precision, platform)))
    assert {product.operation for product in encoder} == {"dot_general", "convolution"}
    assert {product[1:] for product in encoder} == {(operand, operand, asked)}
    complete = Counter(products(text))
    assert encoder <= complete
    full = "f64" if precision == "float64" else "f32"
    assert {product[1:] for product in complete - encoder} == {(full, full, "HIGHEST")}
    # No custom call, which needs a particular library.
    assert set(re.findall(r"custom_call @(\S+?)\(", text)) == set()


# The result, the operation, the function of a call, and the operands.
_OPERATION = re.compile(r'\s*(%\w+) = (?:\w+\.)?(\w+) ?(?:@"?([^"(]+)"?)?\(?(%\w+(?:, %\w+)*)?')


def transposed_weights(text: str) -> list[str]:
    """The lines of a StableHLO program that transpose a weight, as it is or as another dtype or shape.

    The weights are all arguments of the program except for the last, the windows.
    """
    functions = {re.split(r'[@"(]+', part)[1]: part for part in text.split("func.func ")[1:]}
    pending = [("main", tuple(re.findall(r"(%arg\d+): tensor", functions["main"].splitlines()[0])[:-1]))]
    seen = set()
    found = []
    while pending:
        call = pending.pop()
        if call in seen:
            continue
        seen.add(call)
        name, arguments = call
        weights = set(arguments)
        for line in functions[name].splitlines()[1:]:
            operation = _OPERATION.match(line)
            if operation is None:
                continue
            result, kind, callee, operands = operation[1], operation[2], operation[3], (operation[4] or "").split(", ")
            # Regions beside each other give their values the same names.
            weights.discard(result)
            if kind == "call":
                taken = [f"%arg{index}" for index, operand in enumerate(operands) if operand in weights]
                pending.append((callee, tuple(taken)))
            elif kind == "transpose" and operands[0] in weights:
                found.append(line.strip())
            elif kind in ("convert", "reshape") and operands[0] in weights:
                weights.add(result)
    return found


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_no_weight_is_transposed(precision: str) -> None:
    """A weight is stored in the order in which the products read it."""
    assert transposed_weights(lowered(TINY, precision, "cuda")) == []


def test_transposed_weights_are_found() -> None:
    @jax.jit
    def inner(weight: jax.Array, x: jax.Array) -> jax.Array:
        return x @ weight.astype(np.float16).reshape(2, 3).T

    def outer(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        return inner(weights[0], x) + x @ weights[1].T + (x.T @ x.astype(np.float16))[:1, :2]

    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((6,), (2, 3))]
    x = jax.ShapeDtypeStruct((4, 3), np.float16)
    with jax.numpy_dtype_promotion("standard"):
        text = export.export(jax.jit(outer), platforms=["cuda"])(shapes, x).mlir_module()
    assert len(transposed_weights(text)) == 2


@pytest.mark.usefixtures("cudnn_attention")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_cudnn_attention_is_used_in_half_precisions_only(precision: str) -> None:
    text = lower(abstract_network(TINY, precision), precision, "cuda")
    assert "custom_call @__cudnn" not in lower(abstract_network(TINY, "float32"), "float32", "cuda")
    # In the one function that all layers call.
    (attends,) = [part for part in text.split("func.func ") if "custom_call @__cudnn$fmhaSoftmax" in part]
    assert attends.count("custom_call @__cudnn$fmhaSoftmax") == 1
    name = re.match(r"private (@\w+)\(", attends)
    assert name and text.count(f"call {name[1]}(") == TINY.encoder.num_hidden_layers
    # Neither the weights of the attention nor a product outside the kernel.
    assert "dot_general" in attends and "batching_dims" not in attends


@pytest.mark.usefixtures("cudnn_attention")
def test_a_process_with_a_gpu_runs_the_network_on_its_cpu() -> None:
    """Also with gradients, for which JAX joins the branches of the platforms."""
    config = small_config(hidden_size=16, num_hidden_layers=1)
    graph, state = nnx.split(SpeechEncoder(config, precision="bfloat16", rngs=nnx.Rngs(0)))
    x = noise(2, 100)

    def loss(state: Any, remat: bool) -> jax.Array:
        encoder = nnx.merge(graph, state)
        encoder.remat = remat
        return jnp.mean(encoder(x) ** 2)

    value_and_gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    for remat in (False, True):
        lowered = value_and_gradient.trace(state, remat).lower(lowering_platforms=("cuda",))
        assert "custom_call @__cudnn$fmhaSoftmaxBackward" in lowered.as_text()
    # Quick to compile.
    options: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}
    found = value_and_gradient.lower(state, True).compile(options)(state)
    with for_platform("cpu"):
        expected = value_and_gradient.lower(state, True).compile(options)(state)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.usefixtures("cudnn_attention")
@pytest.mark.parametrize("width", [6, 136])
def test_heads_that_cudnn_does_not_take_are_computed_without_it(width: int) -> None:
    encoder = SpeechEncoder(small_config(hidden_size=2 * width), precision="bfloat16", rngs=nnx.Rngs(0))
    assert "custom_call @__cudnn" not in lower(encoder, "bfloat16", "cuda")


@pytest.mark.parametrize(
    ("backend", "capability", "attends"),
    [("gpu", "9.0", True), ("gpu", "8.0", True), ("gpu", "7.5", False), ("gpu", "gfx90a", False), ("cpu", None, False)],
)
def test_which_devices_have_cudnn_attention(
    backend: str, capability: str | None, attends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert attention.has_cudnn_attention() is attends


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_in_int8_the_six_products_of_a_layer_have_8_bit_operands_and_32_bit_sums(platform: str) -> None:
    """The weights are (out, in), as NVIDIA's and CPUs' products of 8-bit integers take them: none is transposed."""
    text = lowered(TINY, "int8", platform)
    width, inner = TINY.encoder.hidden_size, TINY.encoder.intermediate_size
    product = r"contracting_dims = \[2\] x \[1\].*: \(tensor<\S+xi8>, tensor<(\d+)x(\d+)xi8>\) -> tensor<\S+xi32>"
    found = [tuple(map(int, shape)) for shape in re.findall(product, text)]
    # In the one function that all layers call.
    assert found == [(width, width)] * 4 + [(inner, width), (width, inner)]
    assert not re.search(r"transpose .*xi8>", text)


@pytest.mark.parametrize(
    ("precision", "platform", "axes"),
    # The first of three: the positional convolution, as one product for each group.
    [("bfloat16", "cpu", [1, 1]), ("float16", "cpu", [1, 1]), ("bfloat16", "cuda", [1, 2, 2])],
)
def test_attention_has_one_batch_axis_on_cpus_in_half_precisions(
    precision: str, platform: str, axes: list[int]
) -> None:
    """XLA for CPUs computes products with two batch axes in float32."""
    operand = {"bfloat16": "bf16", "float16": "f16"}[precision]
    batched = r"dot_general %\S+, %\S+, batching_dims = \[(.*?)\] .*-> tensor<.*xf32>"
    lines = [line for line in lowered(TINY, precision, platform).splitlines() if f"x{operand}>" in line]
    found = [len(match[1].split(", ")) for line in lines if (match := re.search(batched, line))]
    assert found == axes, "one function, which all layers call, has the two products of attention"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "rows", "branches"),
    [
        ("cpu", kan.CHUNK_ROWS, 1),
        ("cuda", kan.DEVICE_CHUNK_ROWS, NUM_BRANCHES),
        ("tpu", kan.DEVICE_CHUNK_ROWS, NUM_BRANCHES),
    ],
)
def test_bases_are_in_memory_a_chunk_at_a_time(platform: str, rows: int, branches: int) -> None:
    """For the published network with batches of 64, all bases of a pairwise layer would take 750 MB."""
    config = SpectraConfig()
    text = lower(abstract_network(config, "float32"), "float32", platform, 64, config.num_samples)
    features = config.gat_dims[0]
    widths = {(features, config.kan.num_bases), (features * config.kan.num_bases,)}
    shapes = {tuple(map(int, shape.split("x"))) for shape in re.findall(r"tensor<(\d+(?:x\d+)*)x[bfi]\w+>", text)}
    bases = [shape for shape in shapes if shape[-2:] in widths or shape[-1:] in widths]
    assert (rows, features, config.kan.num_bases) in bases, "the layer has changed, and this test has to follow"
    largest = max(bases, key=math.prod)
    # Outside CPUs the branches run together. Or the nodes of one clip, if these are more than the rows of a chunk.
    assert math.prod(largest) <= branches * rows * features * config.kan.num_bases, largest
