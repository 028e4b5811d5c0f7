"""A speech encoder where a detector is needed: one message for every command, before any weights are fetched."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from spectra_jax.checkpoints.encoder_alone import find_encoder
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.errors import CheckpointError
from tests.conftest import GOLDEN, spectra
from tests.hub_stand_in import HubStandIn

HUBERT = {"model_type": "hubert", "architectures": ["HubertModel"], "hidden_size": 48, "num_hidden_layers": 2}
FIELDS = {**HUBERT, "intermediate_size": 20, "num_conv_pos_embedding_groups": 4, "vocab_size": 32, "dtype": "float16"}


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A directory with the configuration of an encoder, and a file that is not read where a detector is needed."""
    directory = tmp_path / "encoder"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(FIELDS))
    save_file({"masked_spec_embed": np.ones(48, np.float16)}, directory / "model.safetensors")
    return directory


def assert_names_the_encoder(message: str, name: object) -> None:
    assert f"{name}: a speech encoder alone (HuBERT, 2 layers of width 48, " in message
    assert f"`spectra_jax.encoders.from_pretrained('{name}')`" in message
    assert f"`spectra-jax train --encoder {name}`" in message
    assert "unknown" not in message and "\n" not in message.strip()


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_it_is_refused_as_a_detector(file: str, encoder: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(encoder / file)
    assert_names_the_encoder(str(raised.value), encoder / file)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_it_is_refused_without_weights(encoder: Path) -> None:
    """A directory with a pickle only is an encoder too: the way to convert it is what `from_pretrained` reports."""
    (encoder / "model.safetensors").rename(encoder / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(encoder)
    assert_names_the_encoder(str(raised.value), encoder)


def test_every_command_refuses_it_alike(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = GOLDEN.parents[1] / "examples" / "corpus" / "eval" / "june_00.flac"
    manifest = GOLDEN.parents[1] / "examples" / "corpus" / "manifest.csv"
    scores = tmp_path / "scores.csv"
    scores.write_text("utterance_id,score\njune_00,1.0\n")
    for command in (
        ("score", "--model", encoder, clip),
        ("convert", encoder, tmp_path / "converted"),
        ("train", "--manifest", manifest, "--init", encoder, "--output", tmp_path / "run"),
        ("verify", clip, "--model", encoder, "--against", f"scores:{scores}"),
    ):
        assert spectra(monkeypatch, *command) == 2
        assert_names_the_encoder(capsys.readouterr().err, encoder)
    assert not (tmp_path / "converted").exists() and not (tmp_path / "run").exists()


def test_an_encoder_that_cannot_be_loaded_is_an_encoder_too(encoder: Path) -> None:
    (encoder / "config.json").write_text(json.dumps({**FIELDS, "conv_pos_batch_norm": True}))
    with pytest.raises(CheckpointError, match=r"a speech encoder alone \(HuBERT\), without the back-end"):
        open_checkpoint(encoder)
    found = find_encoder(encoder)
    assert found is not None and found.config is None and "conv_pos_batch_norm = true" in str(found.problem)


def test_detectors_are_not_encoders(tmp_path: Path) -> None:
    assert find_encoder(GOLDEN / "tiny") is None
    assert find_encoder(GOLDEN / "tiny" / "model.safetensors") is None
    assert find_encoder(tmp_path / "none") is None
    assert find_encoder(tmp_path) is None


@pytest.fixture
def stand_in(encoder: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A Hub with the encoder, and an empty cache."""
    del hub_cache  # an empty one
    files = {file.name: file.read_bytes() for file in encoder.iterdir()}
    with HubStandIn({"org/encoder": {"main": files}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_the_weights_of_an_encoder_on_the_hub_are_not_fetched(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint("org/encoder")
    assert_names_the_encoder(str(raised.value), "org/encoder")
    assert spectra(monkeypatch, "info", "org/encoder@main") == 0
    printed = capsys.readouterr().out
    assert "HuBERT" in printed and "float16" in printed
    assert {path.rsplit("/", 1)[1] for path in stand_in.requested("GET")} == {"config.json"}
