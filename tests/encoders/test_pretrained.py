"""From the name of an encoder to its weights: directories, files, detectors and the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import spectra_jax
from spectra_jax.encoders import from_pretrained, open_encoder
from spectra_jax.errors import CheckpointError, ConfigError, HubError
from spectra_jax.model.encoder import SpeechEncoder
from spectra_jax.model.quantized import QuantizedLinear
from tests.conftest import GOLDEN
from tests.encoders.saved_models import (
    CONFIG,
    HEADS,
    PRE_NORM,
    WEIGHTS,
    change_config,
    change_tensors,
    model,
    saved,
    split_into_files,
    torch,
)
from tests.hub_stand_in import HubStandIn

pytestmark = pytest.mark.parity

WAVEFORMS = np.random.default_rng(0).normal(size=(2, 400)).astype(np.float32)


def last_state(reference: Any) -> np.ndarray:
    with torch.no_grad():
        return reference(torch.tensor(WAVEFORMS)).last_hidden_state.numpy()


@pytest.mark.parametrize(
    ("model_type", "options"),
    [("wav2vec2", {}), ("wav2vec2", {**PRE_NORM, "adapter_attn_dim": 5}), ("hubert", PRE_NORM), ("wavlm", PRE_NORM)],
)
def test_an_encoder_computes_what_transformers_computes(
    model_type: str, options: dict[str, Any], tmp_path: Path
) -> None:
    encoder = from_pretrained(saved(tmp_path, model_type, **options))
    assert isinstance(encoder, SpeechEncoder) and not encoder.do_normalize
    np.testing.assert_allclose(encoder(WAVEFORMS), last_state(model(model_type, **options)), atol=1e-5)


def test_the_names_of_an_encoder(tmp_path: Path) -> None:
    """Its directory, its file, and the directory and index of several files."""
    saved(tmp_path / "one")
    split_into_files(saved(tmp_path / "two"))
    wanted = from_pretrained(tmp_path / "one")(WAVEFORMS)
    for name in (tmp_path / "one" / WEIGHTS, tmp_path / "two", str(tmp_path / "two" / f"{WEIGHTS}.index.json")):
        np.testing.assert_array_equal(from_pretrained(name)(WAVEFORMS), wanted)
    with pytest.raises(CheckpointError, match="one file of a checkpoint that is split into several"):
        from_pretrained(tmp_path / "two" / "model-00001-of-00002.safetensors")


def test_the_first_layers_are_those_of_transformers(tmp_path: Path) -> None:
    """With the final norm after layer N, and without it among the hidden states of the complete encoder."""
    saved(tmp_path, **PRE_NORM)
    reference = model(**PRE_NORM)
    complete, first = from_pretrained(tmp_path), from_pretrained(tmp_path, num_layers=2)
    reference.encoder.layers = reference.encoder.layers[:2]
    np.testing.assert_allclose(first(WAVEFORMS), last_state(reference), atol=1e-5)
    states = complete.hidden_states(WAVEFORMS)
    np.testing.assert_allclose(complete.norm(states[2]), first(WAVEFORMS), atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16", "int8", "float64"])
def test_precisions(precision: str, tmp_path: Path) -> None:
    saved(tmp_path, "wavlm")
    with jax.enable_x64(precision == "float64"):
        encoder = from_pretrained(tmp_path, precision)
        assert encoder.precision.name == precision
        wanted = SpeechEncoder(encoder.config, precision=precision, rngs=None)
        assert encoder.feature_projection.linear.kernel[...].dtype == encoder.precision.operand_dtype
        query = encoder.layers[0].attention.query
        weight = query.weight if isinstance(query, QuantizedLinear) else query.kernel
        assert weight[...].dtype == (np.int8 if precision == "int8" else encoder.precision.operand_dtype)
        assert encoder.positional_convolution.conv.kernel[...].dtype == encoder.precision.dtype
        assert nnx.graphdef(encoder) == nnx.graphdef(wanted)
        tolerance = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02, "int8": 0.1, "float64": 1e-5}[precision]
        np.testing.assert_allclose(encoder(WAVEFORMS), last_state(model("wavlm")), atol=tolerance)


def test_float64_needs_x64(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float64 needs JAX's x64 mode"):
        from_pretrained(saved(tmp_path), "float64")


def test_a_missing_mask_embedding_is_a_warning(tmp_path: Path) -> None:
    change_tensors(
        saved(tmp_path), lambda tensors: {name: tensors[name] for name in tensors if name != "masked_spec_embed"}
    )
    with pytest.warns(UserWarning, match="have no masked_spec_embed to put in place of masked frames; SpecAugment is"):
        encoder = from_pretrained(tmp_path)
    assert encoder.masked_spec_embed is None


@pytest.mark.parametrize(("stated", "normalizes"), [({"do_normalize": False}, False), ({}, True)])
def test_the_normalization_that_the_feature_extractor_states(
    stated: dict[str, Any], normalizes: bool, tmp_path: Path
) -> None:
    saved(tmp_path)
    with pytest.raises(FileNotFoundError, match="pass do_normalize=True or False"):
        from_pretrained(tmp_path, do_normalize=None)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"feature_size": 1, **stated}))
    assert from_pretrained(tmp_path, do_normalize=None).do_normalize is normalizes
    assert from_pretrained(tmp_path, do_normalize=True).do_normalize
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": "yes"}')
    with pytest.raises(ConfigError, match="do_normalize = 'yes', but it must be true or false"):
        from_pretrained(tmp_path, do_normalize=None)
    (tmp_path / "preprocessor_config.json").write_text("[true]")
    with pytest.raises(ConfigError, match=r"expected a JSON object, found \[True\]"):
        from_pretrained(tmp_path, do_normalize=None)


def test_a_word_is_not_a_choice_of_normalization(annotations_unchecked: None) -> None:
    with pytest.raises(ValueError, match="do_normalize = 'no', but it must be True, False or None"):
        from_pretrained("demo", do_normalize="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["demo", GOLDEN / "tiny"])
def test_the_encoder_of_a_detector(name: str | Path) -> None:
    detector = spectra_jax.load(name)
    windows = np.random.default_rng(1).normal(size=(1, 5000)).astype(np.float32)
    np.testing.assert_array_equal(from_pretrained(name)(windows), detector.encoder(windows))
    first = open_encoder(name, 1)
    assert first.provenance["part"] == "the encoder of a detector"
    assert {path.split(".")[1] for path in dict(first) if path.startswith("layers.")} == {"0"}


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the message says to run makes a directory that loads."""
    monkeypatch.chdir(tmp_path)
    directory = saved(tmp_path / "pickled")
    reference = model()
    torch.save(reference.state_dict(), directory / "pytorch_model.bin")
    (directory / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="pickles, which are never loaded because they can run code") as raised:
        from_pretrained("./pickled")
    lines = re.findall(r"^  (.*)$", str(raised.value), re.MULTILINE)
    assert len(lines) == 3
    exec("\n".join(lines[:2]))  # the third line writes the feature extractor's file, which this directory lacks
    np.testing.assert_allclose(from_pretrained("pickled-safetensors")(WAVEFORMS), last_state(reference), atol=1e-5)


def test_missing_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none: no such file or directory\. An encoder is a directory"):
        from_pretrained(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        from_pretrained(tmp_path)
    (saved(tmp_path / "bare") / CONFIG).unlink()
    with pytest.raises(CheckpointError, match=r"the tensors of a speech encoder, but there is no config\.json beside"):
        from_pretrained(tmp_path / "bare")


def test_another_kind_of_model_is_refused_by_its_type(tmp_path: Path) -> None:
    change_config(saved(tmp_path), model_type="data2vec-audio")
    with pytest.raises(ConfigError, match='model_type = "data2vec-audio", which is not one of the encoders'):
        from_pretrained(tmp_path)


@pytest.fixture
def stand_in(hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A Hub with a small encoder in one file and in several, one with a pickle only, and a cache that is empty."""
    del hub_cache
    one = saved(tmp_path / "one", "wav2vec2", HEADS["ctc"][0])
    (one / "preprocessor_config.json").write_text('{"do_normalize": true}')
    several = split_into_files(saved(tmp_path / "several", "wavlm"))
    contents = {
        name: {file.name: file.read_bytes() for file in directory.iterdir()}
        for name, directory in (("one", one), ("several", several))
    }
    pickled = {CONFIG: contents["one"][CONFIG], "pytorch_model.bin": b"\x80\x04"}
    repos = {"org/one": {"v1": contents["one"]}, "org/several": {"main": contents["several"]}}
    with HubStandIn({**repos, "org/pickled": {"main": pickled}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_an_encoder_from_the_hub(stand_in: HubStandIn, tmp_path: Path) -> None:
    checkpoint = open_encoder("org/one@v1")
    assert checkpoint.provenance["source_revision"] == stand_in.commit("org/one", "v1")
    assert checkpoint.provenance["heads_ignored"] == "lm_head"
    assert re.fullmatch("[0-9a-f]{64}", checkpoint.provenance["source_sha256"])
    encoder = from_pretrained("org/one@v1", do_normalize=None)
    assert encoder.do_normalize
    encoder.do_normalize = False
    np.testing.assert_array_equal(encoder(WAVEFORMS), from_pretrained(tmp_path / "one")(WAVEFORMS))
    np.testing.assert_array_equal(
        from_pretrained("org/several")(WAVEFORMS), from_pretrained(tmp_path / "several")(WAVEFORMS)
    )
    requested = {path.rsplit("/", 1)[1] for path in stand_in.requested("GET", "hub")}
    assert not {name for name in requested if name.endswith(".bin")}


def test_a_damaged_download_is_refused(stand_in: HubStandIn) -> None:
    stand_in.garble(WEIGHTS)
    with pytest.raises(HubError, match="damaged or replaced on its way"):
        from_pretrained("org/one@v1")


def test_a_repository_without_a_feature_extractor(stand_in: HubStandIn) -> None:
    with pytest.raises(HubError, match=r"has no preprocessor_config\.json"):
        from_pretrained("org/several", do_normalize=None)


@pytest.mark.parametrize("name", ["org/pickled", "org/pickled@main"])
def test_a_repository_with_a_pickle_only(stand_in: HubStandIn, name: str) -> None:
    with pytest.raises(CheckpointError, match="they can run code") as raised:
        from_pretrained(name)
    source = "'org/pickled'" if name == "org/pickled" else "'org/pickled', revision='main'"
    assert f"AutoModel.from_pretrained({source}).save_pretrained('pickled-safetensors')" in str(raised.value)
    assert not [path for path in stand_in.requested("GET") if path.endswith(".bin")]
