"""The encoder against a live `transformers.Wav2Vec2Model`, over configurations drawn at random."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from spectra_jax.checkpoints.load import load_model
from spectra_jax.convert import read_pytorch
from spectra_jax.convert.table import WEIGHT_NORM, WEIGHT_NORM_OLD
from spectra_jax.model.config import SpectraConfig
from tests.golden import recipe

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (torch, transformers)")

from tests.oracle.spectra_torch import checkpoint_shapes  # noqa: E402

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

pytestmark = pytest.mark.parity


@st.composite
def encoders(draw: st.DrawFn) -> dict[str, Any]:
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    # twice a multiple, so that two groups always divide it
    hidden = heads * draw(st.sampled_from([2, 6, 8]))
    layers = draw(st.integers(1, 4))
    return {
        "hidden_size": hidden,
        "num_hidden_layers": draw(st.integers(1, 2)),
        "num_attention_heads": heads,
        "intermediate_size": draw(st.integers(3, 20)),
        "layer_norm_eps": draw(st.sampled_from([1e-5, 1e-3])),
        "conv_bias": draw(st.booleans()),
        "conv_dim": draw(st.lists(st.integers(2, 9), min_size=layers, max_size=layers)),
        "conv_kernel": draw(st.lists(st.integers(1, 11), min_size=layers, max_size=layers)),
        "conv_stride": draw(st.lists(st.integers(1, 5), min_size=layers, max_size=layers)),
        "num_conv_pos_embeddings": draw(st.sampled_from([1, 2, 5, 16, 33])),
        "num_conv_pos_embedding_groups": draw(st.sampled_from([1, 2, hidden])),
    }


def pytorch_encoder(encoder: dict[str, Any], seed: int) -> Wav2Vec2Model:
    config = transformers.Wav2Vec2Config(
        **encoder,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        apply_spec_augment=False,
        attn_implementation="eager",
    )
    torch.manual_seed(seed)
    model = transformers.Wav2Vec2Model(config).eval()
    model.masked_spec_embed = None
    with torch.no_grad():
        for parameter in model.parameters():  # initial biases and norms are zeros and ones, which hide mistakes
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    encoder=encoders(),
    old_style=st.booleans(),
    # A CPU extracts features in tiles of 72 frames, of which the last need not be full.
    frames=st.integers(3, 40) | st.integers(70, 160),
    extra=st.integers(0, 4),
    seed=st.integers(0),
)
def test_encoder_is_wav2vec2(encoder: dict[str, Any], old_style: bool, frames: int, extra: int, seed: int) -> None:
    seed %= 2**32
    reference = pytorch_encoder(encoder, seed)
    samples = SpectraConfig.from_dict({}).encoder.from_dict(encoder).num_samples(frames) + extra
    settings_ = {
        "encoder": encoder,
        "num_samples": samples,
        "max_frames": frames + 10,
        "bridge_dim": 6,
        "residual_channels": [[1, 4]],
        "gat_dims": [3, 2],
    }
    # The rest of the network is from the recipe, so that the encoder is read from a file of a complete network.
    tensors = recipe.seeded_checkpoint(checkpoint_shapes(settings_), seed=1, hidden_size=encoder["hidden_size"])
    prefix = "ssl_encoder.model."
    encoder_tensors = {f"{prefix}{name}": tensor.numpy() for name, tensor in reference.state_dict().items()}
    assert encoder_tensors.keys() == {name for name in tensors if name.startswith(prefix)}
    tensors |= encoder_tensors
    if old_style:
        for new, old in zip(WEIGHT_NORM, WEIGHT_NORM_OLD, strict=True):
            tensors[old] = tensors.pop(new)
    with TemporaryDirectory() as folder, jax.enable_x64(True):
        save_file(tensors, Path(folder) / "model.safetensors")
        checkpoint = read_pytorch(Path(folder) / "model.safetensors", SpectraConfig.from_dict(settings_))
        model = load_model(checkpoint, "float64")
        waveform = np.random.default_rng(seed).standard_normal((2, samples))
        found = np.asarray(jax.jit(lambda x: model.encoder(x))(waveform))
    with torch.no_grad():
        expected = reference.double()(torch.from_numpy(waveform)).last_hidden_state.numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
