"""Mistakes that porters of this network make, made on purpose: the golden comparison must see every one of them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from spectra_jax import audio
from spectra_jax.checkpoints import native as checkpoint
from spectra_jax.checkpoints.native import Checkpoint, load_model
from spectra_jax.model import layers, wav2vec2
from spectra_jax.model.spectra import SpectraAASIST3, split
from tests.conftest import GOLDEN, expected, golden_windows
from tests.golden import recipe
from tests.tolerances import LOGITS, STAGE_MAX

STAGES = load_file(GOLDEN / "tiny" / "stages.safetensors")
GOLDEN_ROWS = expected("tiny")["waveforms"]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint) -> SpectraAASIST3:
    with jax.enable_x64(True):
        return load_model(tiny_checkpoint, "float64")


@pytest.fixture(scope="module")
def compiled(model: SpectraAASIST3) -> Callable[[nnx.State, np.ndarray], np.ndarray]:
    forward = jax.jit(split(model)[0])

    def run(params: nnx.State, windows: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(forward(params, windows))

    return run


def agrees(logits: np.ndarray) -> bool:
    """The comparison of test_golden.py, as a verdict."""
    wanted = np.array([row["logits_float64"] for row in GOLDEN_ROWS])
    return bool(np.max(np.abs(logits - wanted)) <= LOGITS["float64"])


def test_the_network_itself_agrees(model: SpectraAASIST3, compiled: Callable) -> None:
    assert agrees(compiled(split(model)[1], golden_windows(GOLDEN_ROWS)))


def leaf(params: nnx.State, path: str) -> nnx.Variable:
    for part in path.split("."):
        params = params[int(part) if part.isdecimal() else part]
    return params


def swap(params: nnx.State, one: str, other: str) -> None:
    for name in ("base_weight", "spline_weight", "spline_scaler", "slope"):
        a, b = leaf(params, f"{one}.{name}"), leaf(params, f"{other}.{name}")
        first, second = a[...], b[...]
        a[...], b[...] = second, first


def transpose_query(params: nnx.State) -> None:
    kernel = leaf(params, "encoder.layers.1.attention.query.kernel")
    kernel[...] = kernel[...].T


def transpose_convolution(params: nnx.State) -> None:
    kernel = leaf(params, "aasist.residual_encoder.blocks.1.conv2.kernel")
    kernel[...] = kernel[...].swapaxes(2, 3)


def reverse_positional_taps(params: nnx.State) -> None:
    kernel = leaf(params, "encoder.positional_convolution.conv.kernel")
    kernel[...] = kernel[...][::-1]


def swap_node_types(params: nnx.State) -> None:
    swap(params, "aasist.branches.2.st1.temporal_projection", "aasist.branches.2.st1.spectral_projection")


def swap_graph_attentions(params: nnx.State) -> None:
    for layer in ("pair_projection", "attended_projection", "node_projection"):
        swap(params, f"aasist.gat_s.{layer}", f"aasist.gat_t.{layer}")


def reset_residual_block(params: nnx.State) -> None:
    """What a peer did: the names did not match, the load was not strict, and a block kept its initial values."""
    for part in ("conv1", "conv2"):
        kernel = leaf(params, f"aasist.residual_encoder.blocks.4.{part}.kernel")
        bound = np.prod(kernel[...].shape[:-1]) ** -0.5
        kernel[...] = jax.random.uniform(jax.random.key(0), kernel[...].shape, kernel[...].dtype, -bound, bound)


def drop_slope(params: nnx.State) -> None:
    leaf(params, "aasist.head.slope")[...] *= 0


WEIGHT_MUTATIONS = [
    transpose_query,
    transpose_convolution,
    reverse_positional_taps,
    swap_node_types,
    swap_graph_attentions,
    reset_residual_block,
    drop_slope,
]


@pytest.mark.parametrize("mutate", WEIGHT_MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_wrong_weights_are_seen(mutate: Callable, model: SpectraAASIST3, compiled: Callable) -> None:
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x, split(model)[1])
        mutate(params)
    assert not agrees(compiled(params, golden_windows(GOLDEN_ROWS)))


def unemphasised(rows: list[dict]) -> np.ndarray:
    clips = [recipe.waveform(row["seed"], row["samples"]) for row in rows]
    return np.stack([audio.prepare(clip, 16000, preemphasis=0.0) for clip in clips])


def emphasised_after_the_cut(rows: list[dict]) -> np.ndarray:
    """Tiled first: the seams between repetitions then get differences that the reference does not have."""
    clips = [recipe.waveform(row["seed"], row["samples"]).astype(np.float32) / np.float32(32768) for row in rows]
    return np.stack([audio.pre_emphasis(audio.window(clip)) for clip in clips])


@pytest.mark.parametrize("windows", [unemphasised, emphasised_after_the_cut], ids=lambda make: make.__name__)
def test_wrong_windows_are_seen(windows: Callable, model: SpectraAASIST3, compiled: Callable) -> None:
    assert not agrees(compiled(split(model)[1], windows(GOLDEN_ROWS)))


def test_right_windows_are_the_reference_s() -> None:
    clips = [recipe.waveform(row["seed"], row["samples"]) for row in GOLDEN_ROWS]
    found = np.stack([audio.prepare(clip, 16000) for clip in clips])
    np.testing.assert_array_equal(found, golden_windows(GOLDEN_ROWS))


def tanh_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wav2vec2, "gelu", jax.nn.gelu)


def flax_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    init = layers.LayerNorm.__init__
    monkeypatch.setattr(layers.LayerNorm, "__init__", lambda self, width, _, **how: init(self, width, 1e-6, **how))


def batch_norm_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    init = layers.BatchNorm.__init__
    monkeypatch.setattr(layers.BatchNorm, "__init__", lambda self, width, **how: init(self, width, epsilon=1e-3, **how))


@pytest.mark.slow
@pytest.mark.parametrize("mutate", [tanh_gelu, flax_epsilon, batch_norm_epsilon], ids=lambda mutate: mutate.__name__)
def test_wrong_formulas_are_seen(
    mutate: Callable, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Checkpoint
) -> None:
    # Stages instead of logits: a program that stops at the residual encoder compiles in a fraction of the time.
    def early_stages() -> list[bool]:
        with jax.enable_x64(True):
            graph, params = nnx.split(load_model(tiny_checkpoint, "float64"))

            @jax.jit
            def run(params: nnx.State, windows: np.ndarray) -> list[jax.Array]:
                seen: dict[str, jax.Array] = {}
                nnx.merge(graph, params)(windows, tap=lambda name, value: seen.setdefault(name, value))
                return [seen["ssl.last_hidden_state"], seen["residual_encoder"].transpose(0, 3, 1, 2)]

            found = map(np.asarray, run(params, golden_windows(GOLDEN_ROWS)))
        names = ["ssl.last_hidden_state", "residual_encoder"]
        rms = [expected("tiny")["stages"][name]["rms"] for name in names]
        return [
            bool(np.max(np.abs(value - STAGES[name])) <= STAGE_MAX["float64"] * scale)
            for name, value, scale in zip(names, found, rms, strict=True)
        ]

    assert early_stages() == [True, True]
    mutate(monkeypatch)

    # The network without weights is kept, and what the encoder's layers were traced to.
    def forget() -> None:
        checkpoint._abstract.cache_clear()
        jax.clear_caches()

    forget()
    try:
        assert False in early_stages()
    finally:
        forget()
