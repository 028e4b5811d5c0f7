"""What the network is compiled from, for devices that are not at hand: lowering needs none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from jax import export
from jax._src.cudnn import fused_attention_stablehlo

from spectra_jax.checkpoints.native import held_model
from spectra_jax.model import kan, wav2vec2
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import split
from tests.conftest import GOLDEN

TINY = SpectraConfig.from_json(GOLDEN / "tiny" / "config.json")


def lowered(config: SpectraConfig, precision: str, platform: str, batch_size: int = 2) -> str:
    """The StableHLO of the scoring function, whole, for another platform."""
    with jax.enable_x64(precision == "float64"):
        forward, params = split(held_model(config, precision))
        windows = jax.ShapeDtypeStruct((batch_size, config.num_samples), np.float32)
        # JAX promises nothing of how long cuDNN's call stays the same; here it is looked at once.
        allowed = [export.DisabledSafetyCheck.custom_call("__cudnn$fmhaSoftmax")]
        lower = export.export(jax.jit(forward), platforms=[platform], disabled_checks=allowed)
        return lower(params, windows).mlir_module()


def products(text: str) -> Iterator[tuple[str, str]]:
    """Operand dtype and precision of every matrix product and convolution."""
    for line in text.splitlines():
        if "stablehlo.dot_general" in line or "stablehlo.convolution" in line:
            asked = re.search(r"precision(?:_config)? = \[(?:#stablehlo<precision )?(\w+)", line)
            operand = re.search(r": \(tensor<(?:\d+x)*(\w+)>", line)
            assert operand, line
            yield operand[1], asked[1] if asked else "DEFAULT"


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(
    ("precision", "asked"),
    [
        # HIGHEST keeps float32 from TF32 on NVIDIA GPUs and from bfloat16 passes on TPUs.
        ("float32", {("f32", "HIGHEST")}),
        ("tf32", {("f32", "HIGH"), ("f32", "HIGHEST")}),
        ("bfloat16", {("bf16", "DEFAULT"), ("f32", "HIGHEST")}),
        ("float64", {("f64", "HIGHEST")}),
    ],
)
def test_every_precision_lowers_and_means_what_it_says(precision: str, asked: set, platform: str) -> None:
    if precision == "float64" and platform == "tpu":
        pytest.skip("TPUs compute no float64")
    text = lowered(TINY, precision, platform)
    assert set(products(text)) == asked
    # Nothing that only one library has.
    assert set(re.findall(r"custom_call @(\S+?)\(", text)) == set()


def test_cudnn_attends_in_bfloat16_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav2vec2, "cudnn_attends", lambda: True)
    # As on a machine with cuDNN: JAX asks for its version while it traces.
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    # What a layer was traced to before is kept, and is to be forgotten again.
    jax.clear_caches()
    try:
        text = lowered(TINY, "bfloat16", "cuda")
        assert "custom_call @__cudnn" not in lowered(TINY, "float32", "cuda")
    finally:
        jax.clear_caches()
    # In the one function that every layer is a call of.
    (attends,) = [part for part in text.split("func.func ") if "custom_call @__cudnn$fmhaSoftmax" in part]
    assert attends.count("custom_call @__cudnn$fmhaSoftmax") == 1
    name = re.match(r"private (@\w+)\(", attends)
    assert name and text.count(f"call {name[1]}(") == TINY.encoder.num_hidden_layers


@pytest.mark.parametrize(
    ("backend", "capability", "attends"),
    [("gpu", "9.0", True), ("gpu", "8.0", True), ("gpu", "7.5", False), ("gpu", "gfx90a", False), ("cpu", None, False)],
)
def test_where_cudnn_attends(
    backend: str, capability: str | None, attends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert wav2vec2.cudnn_attends() is attends


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_bases_are_in_memory_a_chunk_at_a_time(platform: str) -> None:
    """Of the published network at batch 64, where all bases of one pairwise layer at once would be 750 MB."""
    config = SpectraConfig()
    text = lowered(config, "float32", platform, batch_size=64)
    features = config.gat_dims[0]
    widths = {(features, config.kan.num_bases), (features * config.kan.num_bases,)}
    shapes = {tuple(map(int, shape.split("x"))) for shape in re.findall(r"tensor<(\d+(?:x\d+)*)x[bfi]\w+>", text)}
    bases = [shape for shape in shapes if shape[-2:] in widths or shape[-1:] in widths]
    assert (kan.CHUNK_ROWS, features, config.kan.num_bases) in bases, "the layer looks different now; so must this test"
    largest = max(bases, key=math.prod)
    # Or one clip's nodes, where there are more of those than a chunk's rows.
    assert math.prod(largest) <= kan.CHUNK_ROWS * features * config.kan.num_bases, largest
