"""The lowered program for each platform: lowering needs no device of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from jax import export
from jax._src.cudnn import fused_attention_stablehlo

from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.checkpoints.load import abstract_inference_model
from spectra_jax.model import kan
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.encoder import attention
from spectra_jax.model.functional import split
from tests.conftest import GOLDEN

TINY = read_config(GOLDEN / "tiny" / "config.json")


def lowered(config: SpectraConfig, precision: str, platform: str, batch_size: int = 2) -> str:
    """The StableHLO of the complete scoring function for a platform."""
    with jax.enable_x64(precision == "float64"):
        forward, params, rest = split(abstract_inference_model(config, precision))
        windows = jax.ShapeDtypeStruct((batch_size, config.num_samples), np.float32)
        # JAX does not promise a stable cuDNN call, which an exported program would need.
        allowed = [export.DisabledSafetyCheck.custom_call("__cudnn$fmhaSoftmax")]
        lower = export.export(jax.jit(forward), platforms=[platform], disabled_checks=allowed)
        return lower(params, rest, windows).mlir_module()


def products(text: str) -> Iterator[tuple[str, str]]:
    """Operand dtype and precision of every matrix product and convolution."""
    for line in text.splitlines():
        if "stablehlo.dot_general" in line or "stablehlo.convolution" in line:
            precision = re.search(r"precision(?:_config)? = \[(?:#stablehlo<precision )?(\w+)", line)
            operand = re.search(r": \(tensor<(?:\d+x)*(\w+)>", line)
            assert operand, line
            yield operand[1], precision[1] if precision else "DEFAULT"


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(
    ("precision", "asked"),
    [
        # HIGHEST keeps float32 from TF32 on NVIDIA GPUs and from bfloat16 passes on TPUs.
        ("float32", {("f32", "HIGHEST")}),
        ("tf32", {("f32", "HIGH"), ("f32", "HIGHEST")}),
        ("bfloat16", {("bf16", "DEFAULT"), ("f32", "HIGHEST")}),
        ("float16", {("f16", "DEFAULT"), ("f32", "HIGHEST")}),
        ("int8", {("i8", "DEFAULT"), ("bf16", "DEFAULT"), ("f32", "HIGHEST")}),
        ("float64", {("f64", "HIGHEST")}),
    ],
)
def test_products_have_the_operands_of_the_precision(
    precision: str, asked: set[tuple[str, str]], platform: str
) -> None:
    if precision == "float64" and platform == "tpu":
        pytest.skip("TPUs do not compute float64")
    text = lowered(TINY, precision, platform)
    assert set(products(text)) == asked
    # No custom call, which needs a particular library.
    assert set(re.findall(r"custom_call @(\S+?)\(", text)) == set()


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
    ("precision", "platform", "axes"), [("bfloat16", "cpu", 1), ("float16", "cpu", 1), ("bfloat16", "cuda", 2)]
)
def test_attention_has_one_batch_axis_on_cpus_in_half_precisions(precision: str, platform: str, axes: int) -> None:
    """XLA for CPUs computes products with two batch axes in float32."""
    operand = {"bfloat16": "bf16", "float16": "f16"}[precision]
    batched = r"dot_general %\S+, %\S+, batching_dims = \[(.*?)\] .*-> tensor<.*xf32>"
    lines = [line for line in lowered(TINY, precision, platform).splitlines() if f"x{operand}>" in line]
    found = [len(match[1].split(", ")) for line in lines if (match := re.search(batched, line))]
    assert found == [axes] * 2, "one function, which all layers call, has the two products of attention"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_cudnn_attention_is_used_in_half_precisions_only(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "has_cudnn_attention", lambda: True)
    # JAX reads the version of cuDNN while tracing.
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    # The traces of layers are cached.
    jax.clear_caches()
    try:
        text = lowered(TINY, precision, "cuda")
        assert "custom_call @__cudnn" not in lowered(TINY, "float32", "cuda")
    finally:
        jax.clear_caches()
    # In the one function that all layers call.
    (attends,) = [part for part in text.split("func.func ") if "custom_call @__cudnn$fmhaSoftmax" in part]
    assert attends.count("custom_call @__cudnn$fmhaSoftmax") == 1
    name = re.match(r"private (@\w+)\(", attends)
    assert name and text.count(f"call {name[1]}(") == TINY.encoder.num_hidden_layers


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
def test_bases_are_in_memory_a_chunk_at_a_time(platform: str) -> None:
    """For the published network with batches of 64, all bases of a pairwise layer would take 750 MB."""
    config = SpectraConfig()
    text = lowered(config, "float32", platform, batch_size=64)
    features = config.gat_dims[0]
    widths = {(features, config.kan.num_bases), (features * config.kan.num_bases,)}
    shapes = {tuple(map(int, shape.split("x"))) for shape in re.findall(r"tensor<(\d+(?:x\d+)*)x[bfi]\w+>", text)}
    bases = [shape for shape in shapes if shape[-2:] in widths or shape[-1:] in widths]
    assert (kan.CHUNK_ROWS, features, config.kan.num_bases) in bases, (
        "the layer has changed, and this test has to follow"
    )
    largest = max(bases, key=math.prod)
    # Or the nodes of one clip, if these are more than the rows of a chunk.
    assert math.prod(largest) <= kan.CHUNK_ROWS * features * config.kan.num_bases, largest
