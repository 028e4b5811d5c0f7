"""Typical mistakes in a reimplementation, made on purpose: the golden comparison must detect each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from spectra_jax import audio
from spectra_jax.checkpoints.checkpoint import Checkpoint, split_abstract_model
from spectra_jax.checkpoints.load import load_model
from spectra_jax.model import norms
from spectra_jax.model.encoder import features, transformer
from spectra_jax.model.spectra import SpectraAASIST3
from tests.conftest import GOLDEN, expected, golden_windows
from tests.golden import recipe
from tests.tolerances import LOGITS, STAGE_MAX

STAGES = load_file(GOLDEN / "tiny" / "stages.safetensors")
GOLDEN_ROWS = expected("tiny")["waveforms"]

Compiled = Callable[[nnx.State[Any, Any], np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint) -> SpectraAASIST3:
    with jax.enable_x64(True):
        return load_model(tiny_checkpoint, "float64")


@pytest.fixture(scope="module")
def compiled(model: SpectraAASIST3) -> Compiled:
    graph, _ = nnx.split(model)
    forward = jax.jit(lambda params, windows: nnx.merge(graph, params)(windows))

    def run(params: nnx.State[Any, Any], windows: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(forward(params, windows))

    return run


def agrees(logits: np.ndarray) -> bool:
    """Whether the comparison of test_golden.py passes."""
    expected_logits = np.array([row["logits_float64"] for row in GOLDEN_ROWS])
    return bool(np.max(np.abs(logits - expected_logits)) <= LOGITS["float64"])


def test_the_network_itself_agrees(model: SpectraAASIST3, compiled: Compiled) -> None:
    assert agrees(compiled(nnx.state(model), golden_windows(GOLDEN_ROWS)))


def variable(params: nnx.State[Any, Any], path: str) -> nnx.Variable[Any]:
    found: Any = params
    for part in path.split("."):
        found = found[int(part) if part.isdecimal() else part]
    return found


def swap(params: nnx.State[Any, Any], one: str, other: str) -> None:
    for name in ("base_weight", "spline_weight", "spline_scaler", "slope"):
        a, b = variable(params, f"{one}.{name}"), variable(params, f"{other}.{name}")
        first, second = a[...], b[...]
        a[...], b[...] = second, first


def transpose_query(params: nnx.State[Any, Any]) -> None:
    kernel = variable(params, "encoder.layers.1.attention.query.kernel")
    kernel[...] = kernel[...].T


def transpose_convolution(params: nnx.State[Any, Any]) -> None:
    kernel = variable(params, "aasist.residual_encoder.blocks.1.conv2.kernel")
    kernel[...] = kernel[...].swapaxes(2, 3)


def reverse_positional_kernel(params: nnx.State[Any, Any]) -> None:
    kernel = variable(params, "encoder.positional_convolution.conv.kernel")
    kernel[...] = kernel[...][::-1]


def swap_node_types(params: nnx.State[Any, Any]) -> None:
    swap(params, "aasist.branches.2.st1.temporal_projection", "aasist.branches.2.st1.spectral_projection")


def swap_graph_attentions(params: nnx.State[Any, Any]) -> None:
    for layer in ("pair_projection", "attended_projection", "node_projection"):
        swap(params, f"aasist.gat_s.{layer}", f"aasist.gat_t.{layer}")


def reset_residual_block(params: nnx.State[Any, Any]) -> None:
    """As in a public re-implementation: names differ, loading is not strict, and a block keeps its initial values."""
    for part in ("conv1", "conv2"):
        kernel = variable(params, f"aasist.residual_encoder.blocks.4.{part}.kernel")
        bound = np.prod(kernel[...].shape[:-1]) ** -0.5
        kernel[...] = jax.random.uniform(jax.random.key(0), kernel[...].shape, kernel[...].dtype, -bound, bound)


def drop_slope(params: nnx.State[Any, Any]) -> None:
    variable(params, "aasist.head.slope")[...] *= 0


WEIGHT_MUTATIONS = [
    transpose_query,
    transpose_convolution,
    reverse_positional_kernel,
    swap_node_types,
    swap_graph_attentions,
    reset_residual_block,
    drop_slope,
]


@pytest.mark.parametrize("mutate", WEIGHT_MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_wrong_weights_are_detected(
    mutate: Callable[[nnx.State[Any, Any]], None], model: SpectraAASIST3, compiled: Compiled
) -> None:
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x, nnx.state(model))
        mutate(params)
    assert not agrees(compiled(params, golden_windows(GOLDEN_ROWS)))


def without_preemphasis(rows: list[dict[str, Any]]) -> np.ndarray:
    clips = [recipe.waveform(row["seed"], row["samples"]) for row in rows]
    return np.stack([audio.prepare(clip, 16000, preemphasis=0.0) for clip in clips])


def preemphasis_after_the_window(rows: list[dict[str, Any]]) -> np.ndarray:
    """The clip is repeated first, so that pre-emphasis acts across repetitions, which it does not in the reference."""
    clips = [recipe.waveform(row["seed"], row["samples"]).astype(np.float32) / np.float32(32768) for row in rows]
    return np.stack([audio.pre_emphasis(audio.window(clip)) for clip in clips])


@pytest.mark.parametrize(
    "windows", [without_preemphasis, preemphasis_after_the_window], ids=lambda function: function.__name__
)
def test_wrong_windows_are_detected(
    windows: Callable[[list[dict[str, Any]]], np.ndarray], model: SpectraAASIST3, compiled: Compiled
) -> None:
    assert not agrees(compiled(nnx.state(model), windows(GOLDEN_ROWS)))


def test_prepared_windows_are_those_of_the_reference() -> None:
    clips = [recipe.waveform(row["seed"], row["samples"]) for row in GOLDEN_ROWS]
    found = np.stack([audio.prepare(clip, 16000) for clip in clips])
    np.testing.assert_array_equal(found, golden_windows(GOLDEN_ROWS))


def tanh_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (features, transformer):
        monkeypatch.setattr(module, "gelu", jax.nn.gelu)


def flax_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    init = norms.LayerNorm.__init__
    monkeypatch.setattr(norms.LayerNorm, "__init__", lambda self, width, _, **how: init(self, width, 1e-6, **how))


def batch_norm_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    init = norms.BatchNorm.__init__
    monkeypatch.setattr(norms.BatchNorm, "__init__", lambda self, width, **how: init(self, width, epsilon=1e-3, **how))


@pytest.mark.slow
@pytest.mark.parametrize(
    "mutate",
    [tanh_gelu, *(pytest.param(mutate, marks=pytest.mark.long) for mutate in (flax_epsilon, batch_norm_epsilon))],
    ids=lambda mutate: mutate.__name__,
)
def test_wrong_formulas_are_detected(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Checkpoint
) -> None:
    # Early stages, not logits: a program that ends at the residual encoder compiles much faster.
    def early_stages() -> list[bool]:
        with jax.enable_x64(True):
            graph, params = nnx.split(load_model(tiny_checkpoint, "float64"))

            @jax.jit
            def run(params: nnx.State[Any, Any], windows: np.ndarray) -> list[jax.Array]:
                recorded: dict[str, jax.Array] = {}
                nnx.merge(graph, params)(windows, hook=lambda name, value: recorded.setdefault(name, value))
                return [recorded["ssl.last_hidden_state"], recorded["residual_encoder"].transpose(0, 3, 1, 2)]

            found = map(np.asarray, run(params, golden_windows(GOLDEN_ROWS)))
        names = ["ssl.last_hidden_state", "residual_encoder"]
        rms = [expected("tiny")["stages"][name]["rms"] for name in names]
        return [
            bool(np.max(np.abs(value - STAGES[name])) <= STAGE_MAX["float64"] * scale)
            for name, value, scale in zip(names, found, rms, strict=True)
        ]

    assert early_stages() == [True, True]
    mutate(monkeypatch)

    # The abstract network and the traces of the encoder layers are cached.
    def clear_caches() -> None:
        split_abstract_model.cache_clear()
        jax.clear_caches()

    clear_caches()
    try:
        assert False in early_stages()
    finally:
        clear_caches()
