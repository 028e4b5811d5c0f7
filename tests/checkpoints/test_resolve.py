"""From the name of a model to its checkpoint: directories, files, the demo and the Hub."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import spectra_jax
from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.checkpoints.native import read_native
from spectra_jax.checkpoints.resolve import load, open_checkpoint
from spectra_jax.convert import convert
from spectra_jax.errors import CheckpointError, ConfigError
from spectra_jax.files.tensor_file import TensorFile
from tests.checkpoints.native_files import (
    COMMIT,
    TINY,
    assert_same,
    loaded_weights,
    metadata_of,
)
from tests.hub_stand_in import HubStandIn


def test_opening_reads_no_weights(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: TensorFile, name: str) -> np.ndarray:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(TensorFile, "read", read)
    for model in (native, TINY, "demo"):
        checkpoint = open_checkpoint(model)
        with pytest.raises(AssertionError, match="was read"):
            dict(checkpoint)


def test_the_demo_is_opened() -> None:
    checkpoint = open_checkpoint("demo")
    assert loaded_weights(load("demo")).keys() == dict(checkpoint).keys()
    assert checkpoint.provenance["format"] == "spectra-jax"


def test_the_demo_takes_precedence_over_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert open_checkpoint("demo").weights.parent != tmp_path / "demo"
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        open_checkpoint("./demo")


def test_a_native_file_is_opened_as_its_directory(native: Path, tmp_path: Path) -> None:
    assert_same(open_checkpoint(native / "model.safetensors"), read_native(native))
    renamed = shutil.copy(native / "model.safetensors", tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="native format; name the directory that holds model"):
        open_checkpoint(renamed)


def test_a_pytorch_file_uses_the_configuration_beside_it(tmp_path: Path) -> None:
    for model in (TINY, TINY / "model.safetensors"):
        assert open_checkpoint(model).config == read_config(TINY / "config.json")
    # Under any name. Without a configuration it is read as the published network, which has other sizes.
    weights = shutil.copy(TINY / "model.safetensors", tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match="of this configuration: 336 missing, 0 unexpected"):
        open_checkpoint(weights)
    shutil.copy(TINY / "config.json", tmp_path)
    assert open_checkpoint(weights).config == read_config(TINY / "config.json")
    (tmp_path / "config.json").write_text('{"bridge": 48}')
    with pytest.raises(ConfigError, match=r"config\.json: .*unknown field 'bridge'"):
        open_checkpoint(weights)


@pytest.mark.parametrize("contents", [[], ["pytorch_model.bin"], ["config.json"]])
def test_a_directory_without_weights(contents: list[str], tmp_path: Path) -> None:
    for name in contents:
        (tmp_path / name).write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors; weights are read from safetensors only"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["none.safetensors", "./org/name", "/no/such", "~/model", "name", "a/b/c"])
def test_a_missing_model_is_reported(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such file or directory\. A model is a native directory"):
        open_checkpoint(name)


@pytest.fixture
def stand_in(native: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A Hub with the tiny network, as a PyTorch file and in the native format, and an empty cache."""
    del hub_cache  # an empty one
    repos = {
        f"org/{name}": {revision: {file.name: file.read_bytes() for file in folder.glob("[cm]o*")}}
        for name, revision, folder in (("tiny", "v1", TINY), ("native", COMMIT, native))
    }
    with HubStandIn(repos) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_pytorch_checkpoint_from_the_hub(stand_in: HubStandIn, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    name = "org/tiny@v1"
    facts = {
        "source": name,
        "source_format": "pytorch",
        "source_revision": stand_in.commit("org/tiny", "v1"),
        "source_sha256": hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest(),
    }
    checkpoint = open_checkpoint(name)
    assert (checkpoint.name, checkpoint.config) == (name, tiny_checkpoint.config)
    assert checkpoint.provenance == facts
    assert_same(checkpoint, tiny_checkpoint)

    convert(name, tmp_path / "model")
    converted = read_native(tmp_path / "model")
    assert_same(converted, tiny_checkpoint)
    versions = {"format": "spectra-jax", "format_version": "1", "converter_version": spectra_jax.__version__}
    assert converted.provenance == metadata_of(tmp_path / "model") == {**facts, **versions}


def test_a_native_checkpoint_from_the_hub(stand_in: HubStandIn, native: Path, tmp_path: Path) -> None:
    name = f"org/native@{COMMIT}"
    convert(name, tmp_path / "model")
    assert_same(read_native(tmp_path / "model"), read_native(native))
    found = metadata_of(tmp_path / "model")
    # All three are those of the repository, none those of the origin that its metadata state.
    assert found["source"] == name
    assert found["source_revision"] == COMMIT
    assert found["source_sha256"] == hashlib.sha256((native / "model.safetensors").read_bytes()).hexdigest()


def test_a_directory_takes_precedence_over_the_hub(
    stand_in: HubStandIn, native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(native, tmp_path / "org" / "tiny")
    assert open_checkpoint("org/tiny").provenance["source"] == "a test"
    assert stand_in.requests == []
