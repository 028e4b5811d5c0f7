"""What is written: transformers loads it and computes the same, and reading it again keeps the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open

from spectra_jax.checkpoints.checkpoint import variables_by_path
from spectra_jax.checkpoints.resolve import load
from spectra_jax.encoders import from_pretrained, save_pretrained
from spectra_jax.errors import CheckpointError, InputError
from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.encoder import SpeechEncoder
from tests.encoders.saved_models import PRE_NORM, saved, torch

pytestmark = pytest.mark.parity

WAVEFORMS = np.random.default_rng(0).normal(size=(2, 400))
_KERNEL = "positional_convolution.conv.kernel"


def weights(encoder: SpeechEncoder) -> dict[str, np.ndarray]:
    state = nnx.state(encoder, nnx.Param)
    return {path: np.asarray(variable.get_value()) for path, variable in variables_by_path(state).items()}


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("wav2vec2", {}),
        ("wav2vec2", {**PRE_NORM, "adapter_attn_dim": 5}),
        ("wav2vec2", {"mask_time_prob": 0.0}),
        ("hubert", {"feat_proj_layer_norm": False}),
        ("hubert", PRE_NORM),
        ("wavlm", {}),
        ("wavlm", {**PRE_NORM, "num_buckets": 32}),
    ],
)
def test_transformers_loads_it_and_computes_the_same(model_type: str, options: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    with jax.enable_x64(True):
        encoder = from_pretrained(saved(tmp_path / "source", model_type, **options), "float64")
        save_pretrained(encoder, tmp_path / "written")
        found = encoder.hidden_states(WAVEFORMS)
    reference, report = AutoModel.from_pretrained(tmp_path / "written", output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        states = reference.double().eval()(torch.tensor(WAVEFORMS), output_hidden_states=True)
    np.testing.assert_allclose(found[-1], states.last_hidden_state, atol=1e-5)
    for ours, theirs in zip(found[:-1], states.hidden_states, strict=False):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path / "written")  # type: ignore[no-untyped-call]
    assert extractor.do_normalize is False and extractor.sampling_rate == 16000
    assert extractor.return_attention_mask is (encoder.config.feat_extract_norm == "layer")


@pytest.mark.parametrize("model_type", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_reading_and_writing_keeps_the_weights(model_type: str, precision: str, tmp_path: Path) -> None:
    first = from_pretrained(saved(tmp_path / "source", model_type), precision, do_normalize=True)
    save_pretrained(first, tmp_path / "written")
    second = from_pretrained(tmp_path / "written", precision, do_normalize=None)
    assert second.config == first.config and second.do_normalize
    before, after = weights(first), weights(second)
    assert before.keys() == after.keys()
    for path, array in before.items():
        if path != _KERNEL:
            assert array.tobytes() == after[path].tobytes(), path
    assert np.all(np.abs(after[_KERNEL] - before[_KERNEL]) <= np.spacing(np.abs(before[_KERNEL])))


def test_an_encoder_in_int8_is_refused(tmp_path: Path) -> None:
    encoder = from_pretrained(saved(tmp_path / "source"), "int8")
    with pytest.raises(InputError, match="an encoder in int8 cannot be saved: its weights were rounded to 8 bits"):
        save_pretrained(encoder, tmp_path / "written")
    assert not (tmp_path / "written").exists()


def test_the_files(tmp_path: Path) -> None:
    save_pretrained(from_pretrained(saved(tmp_path / "source")), tmp_path / "written")
    assert {path.name for path in (tmp_path / "written").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    with safe_open(tmp_path / "written" / "model.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}
    assert json.loads((tmp_path / "written" / "config.json").read_text())["architectures"] == ["Wav2Vec2Model"]


def test_a_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    encoder = from_pretrained(saved(tmp_path / "source"))
    before = {path: path.read_bytes() for path in (tmp_path / "source").iterdir()}
    with pytest.raises(FileExistsError):
        save_pretrained(encoder, tmp_path / "source")
    assert {path: path.read_bytes() for path in (tmp_path / "source").iterdir()} == before
    (tmp_path / "empty").mkdir()
    save_pretrained(encoder, tmp_path / "empty")


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    encoder = SpeechEncoder(EncoderConfig(num_hidden_layers=1), rngs=nnx.Rngs(0))
    encoder.norm.bias[...] = jnp.full(1024, jnp.nan)
    with pytest.raises(CheckpointError, match=r"written: not written, since .*\n.*norm.bias: 1,024 of 1,024 values"):
        save_pretrained(encoder, tmp_path / "written")
    assert not list(tmp_path.iterdir())


def test_a_detector_is_refused_with_the_attribute_to_pass(tmp_path: Path, annotations_unchecked: None) -> None:
    with pytest.raises(TypeError, match="found a SpectraAASIST3; of a detector, pass its `encoder`"):
        save_pretrained(load("demo"), tmp_path / "written")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
