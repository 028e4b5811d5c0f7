"""The encoders of the wav2vec 2.0 family against live models of transformers, over configurations drawn at random."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.encoder import SpeechEncoder

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
pytest.importorskip("transformers", reason="needs the extra `parity` (torch, transformers)")

from tests.model.encoder.transformers_models import (  # noqa: E402
    encoder_like,
    entries,
    our_states,
    reference_encoder,
    reference_states,
)

pytestmark = [
    pytest.mark.parity,
    pytest.mark.usefixtures("unoptimized"),
    # PyTorch, about how the WavLM of transformers calls it.
    pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning"),
]

# Each compiles a network with its gradient.
EXAMPLES = int(os.environ.get("SPECTRA_JAX_TEST_EXAMPLES", "3"))


@st.composite
def configs(draw: st.DrawFn, model_type: str, is_pre_norm: bool) -> EncoderConfig:
    heads = draw(st.sampled_from([1, 2, 3]))
    # twice a multiple, so that two groups always divide it
    hidden = heads * draw(st.sampled_from([2, 6, 8]))
    layers = draw(st.integers(1, 3))
    values: dict[str, Any] = {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(3, 12)),
        "layer_norm_eps": draw(st.sampled_from([1e-5, 1e-3])),
        "feat_extract_norm": draw(st.sampled_from(["layer", "group"])),
        "do_stable_layer_norm": is_pre_norm,
        "conv_bias": draw(st.booleans()),
        "conv_dim": draw(st.lists(st.integers(2, 9), min_size=layers, max_size=layers)),
        "conv_kernel": draw(st.lists(st.integers(1, 11), min_size=layers, max_size=layers)),
        "conv_stride": draw(st.lists(st.integers(1, 5), min_size=layers, max_size=layers)),
        "num_conv_pos_embeddings": draw(st.sampled_from([1, 2, 5, 16])),
        "num_conv_pos_embedding_groups": draw(st.sampled_from([1, 2, hidden])),
        "mask_time_prob": draw(st.sampled_from([0.0, 0.05])),
    }
    if model_type == "hubert":
        values["feat_proj_layer_norm"] = draw(st.booleans())
    if model_type == "wavlm":
        values["num_buckets"] = draw(st.sampled_from([4, 8, 33, 320]))
        values["max_bucket_distance"] = draw(st.sampled_from([90, 128, 800]))
    elif is_pre_norm:
        values["adapter_attn_dim"] = draw(st.sampled_from([None, 4]))
    return EncoderConfig(**values)


def valid_lengths(draw: st.DrawFn, config: EncoderConfig, samples: int, batch: int) -> np.ndarray | None:
    if draw(st.booleans()):
        return None
    length = st.integers(config.num_samples(1), samples)
    return np.asarray(draw(st.lists(length, min_size=batch, max_size=batch)), np.int32)


@pytest.mark.parametrize("is_pre_norm", [True, False], ids=["pre_norm", "post_norm"])
@pytest.mark.parametrize("model_type", ["wav2vec2", pytest.param("hubert", marks=pytest.mark.long), "wavlm"])
# Without shrinking, which would compile hundreds of networks.
@settings(
    deadline=None,
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
@given(data=st.data(), frames=st.integers(2, 30) | st.integers(70, 90), seed=st.integers(0, 2**32 - 1))
def test_hidden_states_and_gradients_are_those_of_transformers(
    model_type: str, is_pre_norm: bool, data: st.DataObject, frames: int, seed: int
) -> None:
    config = data.draw(configs(model_type, is_pre_norm))
    samples = config.num_samples(frames) + data.draw(st.integers(0, 3))
    lengths = data.draw(st.composite(lambda draw: valid_lengths(draw, config, samples, batch=2))())
    random = np.random.default_rng(seed)
    waveform = random.standard_normal((2, samples))
    reference = reference_encoder(config, seed)
    theirs = torch.from_numpy(waveform).requires_grad_()
    states, last = reference_states(reference, theirs, lengths)
    states[-1] = last
    factors = [random.standard_normal(state.shape) for state in states]
    sum((state * torch.from_numpy(factor)).sum() for state, factor in zip(states, factors, strict=True)).backward()

    with jax.enable_x64(True):
        encoder = encoder_like(reference, config)
        found, (by_weight, by_sample) = states_and_gradients(encoder, waveform, lengths, factors)
        assert len(found) == config.num_hidden_layers + 1 == len(states)
        for ours, expected in zip(found, states, strict=True):
            np.testing.assert_allclose(ours, expected.detach().numpy(), rtol=0, atol=1e-9)
        close_gradient(by_sample, theirs.grad.numpy(), "waveform")
        gradients = dict(reference.named_parameters())
        for entry in entries(encoder):
            expected = gradients[entry.source].grad
            wanted = np.zeros(by_weight[entry.target].shape) if expected is None else expected.numpy()
            close_gradient(by_weight[entry.target], wanted.transpose(entry.axes), entry.source)


def states_and_gradients(
    encoder: SpeechEncoder, waveform: np.ndarray, lengths: np.ndarray | None, factors: list[np.ndarray]
) -> tuple[list[np.ndarray], tuple[dict[str, np.ndarray], np.ndarray]]:
    """Hidden states, and the gradient of the sum of their products with factors, by weight and by sample."""
    graph, state = nnx.split(encoder)

    @jax.jit
    def run(state: Any, waveform: jax.Array, lengths: jax.Array | None) -> Any:
        def loss(state: Any, waveform: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
            states = nnx.merge(graph, state).hidden_states(waveform, lengths)
            sums = [jnp.sum(x * factor) for x, factor in zip(states, factors, strict=True)]
            return jnp.sum(jnp.stack(sums)), states

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(state, waveform)

    (by_weight, by_sample), states = run(state, jnp.asarray(waveform), lengths)
    named = {".".join(map(str, path)): np.asarray(leaf.get_value()) for path, leaf in nnx.to_flat_state(by_weight)}
    return list(map(np.asarray, states)), (named, np.asarray(by_sample))


def close_gradient(found: np.ndarray, expected: np.ndarray, name: str) -> None:
    scale = max(np.max(np.abs(expected), initial=0.0), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * scale, err_msg=name)


SMALL = EncoderConfig(
    hidden_size=12,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=10,
    conv_dim=(6, 5),
    conv_kernel=(6, 3),
    conv_stride=(4, 2),
    num_conv_pos_embeddings=6,
    num_conv_pos_embedding_groups=2,
)


@pytest.mark.parametrize("is_pre_norm", [True, False])
def test_fewer_layers_are_those_of_a_smaller_reference(is_pre_norm: bool) -> None:
    config = dataclasses.replace(SMALL, do_stable_layer_norm=is_pre_norm)
    fewer = dataclasses.replace(config, num_hidden_layers=2)
    reference = reference_encoder(config, seed=1)
    smaller = reference_encoder(fewer, seed=2)
    smaller.load_state_dict(reference.state_dict(), strict=False)
    waveform = np.random.default_rng(0).standard_normal((1, 300))
    with jax.enable_x64(True), torch.no_grad():
        found = our_states(encoder_like(reference, fewer), waveform, None)
        _, expected = reference_states(smaller, torch.from_numpy(waveform), None)
    np.testing.assert_allclose(found[-1], expected.numpy(), rtol=0, atol=1e-9)


def test_transformers_leaves_the_norm_of_the_last_hidden_state_out() -> None:
    """What the docstring of `hidden_states` states about the one difference."""
    reference = reference_encoder(SMALL, seed=1)
    with torch.no_grad():
        states, last = reference_states(reference, torch.randn(1, 300, dtype=torch.float64), None)
        assert not torch.allclose(states[-1], last)
        assert torch.allclose(reference.encoder.layer_norm(states[-1]), last)


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(320, 800), (320, 100), (64, 1000), (33, 20), (4, 2)])
def test_every_distance_has_the_bucket_of_transformers(num_buckets: int, max_distance: int) -> None:
    config = dataclasses.replace(
        SMALL, model_type="wavlm", num_buckets=num_buckets, max_bucket_distance=max_distance, num_hidden_layers=1
    )
    reference = reference_encoder(config, seed=0)
    frames = max_distance + 30
    expected = reference.encoder.layers[0].attention.compute_bias(frames, frames).detach().numpy()
    with jax.enable_x64(True):
        bias = encoder_like(reference, config).relative_position_bias
        assert bias is not None
        np.testing.assert_array_equal(np.asarray(bias(frames)), expected)


# Largest difference from float64, relative to the largest value. With these random weights, bfloat16 has up to 5e-2.
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-6), ("bfloat16", 8e-2), ("float16", 8e-3)])
@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "wavlm"])
def test_every_precision_is_near_the_reference(model_type: str, precision: str, tolerance: float) -> None:
    pre_norm = model_type != "hubert"
    config = dataclasses.replace(
        SMALL,
        model_type=model_type,
        do_stable_layer_norm=pre_norm,
        feat_extract_norm="layer" if pre_norm else "group",
        adapter_attn_dim=4 if model_type == "wav2vec2" else None,
    )
    reference = reference_encoder(config, seed=3)
    waveform = np.random.default_rng(0).standard_normal((2, 500)).astype(np.float32)
    lengths = np.asarray([500, 333], np.int32)
    with torch.no_grad():
        states, last = reference_states(reference, torch.from_numpy(waveform).double(), lengths)
    states[-1] = last
    for found, expected in zip(
        our_states(encoder_like(reference, config, precision), waveform, lengths), states, strict=True
    ):
        difference = np.max(np.abs(found - expected.numpy())) / np.max(np.abs(expected.numpy()))
        assert difference < tolerance, difference
