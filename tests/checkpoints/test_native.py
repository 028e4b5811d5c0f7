"""The native format, and the way from the name of a model to its weights."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from huggingface_hub import constants as client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import spectra_jax
from spectra_jax.checkpoints.native import Checkpoint, leaf_shapes, load_model, read_native, write_native
from spectra_jax.checkpoints.resolve import load, open_checkpoint
from spectra_jax.convert import convert
from spectra_jax.errors import CheckpointError, ConfigError, TensorFileError
from spectra_jax.files.tensor_file import TensorFile
from spectra_jax.model.config import SpectraConfig
from tests.conftest import GOLDEN, spectra
from tests.hub_stand_in import HubStandIn

TINY = GOLDEN / "tiny"
KERNEL = "encoder.positional_convolution.conv.kernel"
COUNT = "aasist.gat_s.norm.num_batches"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def native(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network in the native format; not to be changed."""
    directory = tmp_path_factory.mktemp("checkpoint") / "native"
    write_native(tiny_checkpoint, directory, {"source": "a test"})
    return directory


@pytest.fixture
def altered(native: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a copy of the native tiny network with its tensors or metadata changed."""

    def alter(change: Callable[[Tensors], object] = dict, **facts: str) -> Path:
        directory = tmp_path / "altered"
        shutil.copytree(native, directory)
        tensors = load_file(native / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors", {**metadata_of(native), **facts})
        return directory

    return alter


def metadata_of(directory: Path) -> dict[str, str]:
    with safe_open(directory / "model.safetensors", framework="np") as file:
        return file.metadata()


def leaves_of(model: nnx.Module) -> dict[str, jax.Array]:
    _, state = nnx.split(model)
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def assert_same(found: Checkpoint | Tensors, expected: Checkpoint | Tensors) -> None:
    found, expected = dict(found), dict(expected)
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        assert (found[path].dtype, found[path].shape) == (array.dtype, array.shape), path
        np.testing.assert_array_equal(found[path], array, err_msg=path, strict=True)


# There and back


def test_there_and_back(tiny_checkpoint: Checkpoint, native: Path, tmp_path: Path) -> None:
    found = read_native(native)
    assert found.config == tiny_checkpoint.config
    assert_same(found, tiny_checkpoint)
    # and what any safetensors reader sees
    assert_same(load_file(native / "model.safetensors"), tiny_checkpoint)
    # A second copy is the same files, byte for byte, and so is one into a directory that is there and empty.
    (tmp_path / "copy").mkdir()
    write_native(found, tmp_path / "copy")
    assert {file.name for file in (tmp_path / "copy").iterdir()} == {"config.json", "model.safetensors"}
    for file in native.iterdir():
        assert file.read_bytes() == (tmp_path / "copy" / file.name).read_bytes()


def test_the_directory_is_plain_to_read(native: Path) -> None:
    config = json.loads((native / "config.json").read_text())
    assert config == json.loads((TINY / "config.json").read_text())
    assert metadata_of(native) == {"format": "spectra-jax", "format_version": "1", "source": "a test"}
    tensors = load_file(native / "model.safetensors")
    # The product of two float32 numbers needs more digits than float32 has; everything else is as it was learnt.
    assert {path for path, array in tensors.items() if array.dtype == np.float64} == {KERNEL}
    assert np.any(tensors[KERNEL] != tensors[KERNEL].astype(np.float32))
    assert {array.dtype.name for array in tensors.values()} == {"float32", "float64", "int32"}


def test_large_tensors_can_be_used_in_place(native: Path) -> None:
    content = (native / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    large = [e["data_offsets"] for name, e in header.items() if name != "__metadata__" and np.prod(e["shape"]) >= 1024]
    assert len(large) > 50
    assert all((start + begin) % 64 == 0 for begin, _ in large)


def test_the_leaves_are_the_networks() -> None:
    shapes = leaf_shapes(SpectraConfig())
    # The published count of parameters, less one magnitude for each tap of the folded weight norm.
    statistics = ("mean", "var", "num_batches")
    learnt = sum(np.prod(leaf.shape) for path, leaf in shapes.items() if not path.endswith(statistics))
    assert learnt == 318_948_883 - 128


def test_opening_reads_no_weights(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: TensorFile, name: str) -> np.ndarray:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(TensorFile, "read", read)
    for model in (native, TINY, "demo"):
        checkpoint = open_checkpoint(model)
        with pytest.raises(AssertionError, match="was read"):
            dict(checkpoint)


# Strictness


def test_all_that_is_wrong_with_the_names_is_told_at_once(altered: Callable[..., Path]) -> None:
    def change(tensors: Tensors) -> None:
        tensors["aasist.head.slop"] = tensors.pop("aasist.head.slope")
        del tensors["bridge.linear1.bias"]
        tensors["bridge.linear2.kernel"] = tensors["bridge.linear2.kernel"][:, :-1]
        tensors["bridge.linear1.kernel"] = tensors["bridge.linear1.kernel"].T
        tensors["encoder.norm.scale"] = tensors["encoder.norm.scale"].astype(np.float16)
        tensors["encoder.norm.bias"] = tensors["encoder.norm.bias"].astype(np.float64)
        tensors[KERNEL] = tensors[KERNEL].astype(np.float32)
        tensors[COUNT] = tensors[COUNT].astype(np.int64)

    directory = altered(change)
    with pytest.raises(CheckpointError) as raised:
        read_native(directory, "my model")
    assert str(raised.value).startswith("my model: not the network that its config.json describes")
    assert sorted(raised.value.problems) == [
        f"{COUNT} has dtype I64, expected I32",
        "bridge.linear1.kernel has shape [48, 64], expected [64, 48]",
        "bridge.linear2.kernel has shape [48, 47], expected [48, 48]",
        "encoder.norm.bias has dtype F64, expected F32",
        "encoder.norm.scale has dtype F16, expected F32",
        f"{KERNEL} has dtype F32, expected F64",
        "missing leaf aasist.head.slope [1]",
        "missing leaf bridge.linear1.bias [48]",
        "unexpected tensor aasist.head.slop [1]",
    ]
    for problem in raised.value.problems:
        assert problem in str(raised.value)


def test_all_damaged_values_are_told_at_once(altered: Callable[..., Path], tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors["aasist.head.slope"][0] = np.nan
        tensors["bridge.linear1.kernel"][3, :2] = -np.inf
        tensors[KERNEL][0, 0, 0] = np.inf

    checkpoint = read_native(altered(change))
    expected = [
        "aasist.head.slope: 1 of 1 values are NaN or infinite",
        "bridge.linear1.kernel: 2 of 3,072 values are NaN or infinite",
        f"{KERNEL}: 1 of {checkpoint.read[KERNEL]().size:,} values are NaN or infinite",
    ]
    for use in (dict, load_model, lambda c: write_native(c, tmp_path / "new")):
        with pytest.raises(CheckpointError, match="damaged weights") as raised:
            use(checkpoint)
        assert sorted(raised.value.problems) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["altered"]


@pytest.mark.parametrize(("facts", "version"), [({"format_version": "2"}, "2"), ({"format_version": ""}, "")])
def test_another_version_of_the_format(facts: dict, version: str, altered: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=f"version {version} of the native format, .* reads version 1; convert"):
        open_checkpoint(altered(**facts))


def test_a_configuration_of_another_network(altered: Callable[..., Path]) -> None:
    directory = altered()
    config = read_native(directory).config
    encoder = replace(config.encoder, num_hidden_layers=2)
    (directory / "config.json").write_text(replace(config, bridge_dim=24, encoder=encoder).to_json())
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(directory)
    assert "bridge.linear1.kernel has shape [64, 48], expected [64, 24]" in raised.value.problems
    assert sum("unexpected tensor encoder.layers.2." in problem for problem in raised.value.problems) == 16
    # The message stays readable; the list is whole.
    assert len(str(raised.value).splitlines()) == 22
    assert str(raised.value).endswith(f"and {len(raised.value.problems) - 20} more")


def test_a_configuration_missing_or_broken(altered: Callable[..., Path]) -> None:
    directory = altered()
    (directory / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json: not a JSON file"):
        open_checkpoint(directory)
    (directory / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        open_checkpoint(directory)


def test_a_directory_in_use_is_left_alone(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=str(tmp_path)):
        write_native(tiny_checkpoint, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture(scope="module")
def victim(native: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to damage and mend."""
    return shutil.copytree(native, tmp_path_factory.mktemp("fuzz") / "native")


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_of_the_header(data: st.DataObject, native: Path, victim: Path) -> None:
    weights = victim / "model.safetensors"
    sound = (native / "model.safetensors").read_bytes()
    length = 8 + int.from_bytes(sound[:8], "little")
    # A flip in a name, a shape or an offset is likelier to pass the first checks than one anywhere.
    place = data.draw(st.one_of(st.integers(0, length - 1), st.integers(0, 8 + 500)), label="place")
    change = data.draw(st.integers(1, 255), label="change")
    with weights.open("r+b") as file:
        file.seek(place)
        file.write(bytes([sound[place] ^ change]))
    try:
        try:
            found = dict(open_checkpoint(victim))
        except (TensorFileError, CheckpointError):
            return
        assert_same(found, read_native(native))
    finally:
        with weights.open("r+b") as file:
            file.seek(place)
            file.write(sound[place : place + 1])


# Into a model


def test_every_leaf_is_loaded(tiny_checkpoint: Checkpoint, native: Path) -> None:
    expected = dict(tiny_checkpoint)
    for model in (load_model(tiny_checkpoint), load(native)):
        leaves = leaves_of(model)
        assert leaves.keys() == expected.keys() == leaf_shapes(tiny_checkpoint.config).keys()
        for path, leaf in leaves.items():
            assert leaf.dtype == (jnp.int32 if path.endswith("num_batches") else jnp.float32), path
            np.testing.assert_array_equal(np.asarray(leaf), expected[path].astype(leaf.dtype), err_msg=path)


def test_float64_is_what_the_file_says(tiny_checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="x64"):
        load_model(tiny_checkpoint, "float64")
    with jax.enable_x64(True):
        leaves = leaves_of(load_model(tiny_checkpoint, "float64"))
    for path, array in tiny_checkpoint:
        assert leaves[path].dtype == (jnp.int32 if path.endswith("num_batches") else jnp.float64), path
        np.testing.assert_array_equal(np.asarray(leaves[path]), array, err_msg=path)


def test_bfloat16_holds_the_encoders_products(tiny_checkpoint: Checkpoint) -> None:
    narrow = {
        path for path, leaf in leaves_of(load_model(tiny_checkpoint, "bfloat16")).items() if leaf.dtype == "bfloat16"
    }
    products = {path for path in leaf_shapes(tiny_checkpoint.config) if re.match(r"encoder\..*\.kernel$", path)}
    # A CPU computes the positional convolution in float32.
    assert narrow == products - {"encoder.positional_convolution.conv.kernel"}


# From a name to a checkpoint


def test_the_demo() -> None:
    checkpoint = open_checkpoint("demo")
    assert leaves_of(load("demo")).keys() == dict(checkpoint).keys()
    assert checkpoint.provenance["format"] == "spectra-jax"


def test_the_demo_goes_before_a_directory_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert open_checkpoint("demo").weights.parent != tmp_path / "demo"
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        open_checkpoint("./demo")


def test_a_native_file_stands_for_its_directory(native: Path, tmp_path: Path) -> None:
    assert_same(open_checkpoint(native / "model.safetensors"), read_native(native))
    renamed = shutil.copy(native / "model.safetensors", tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="native format; name the directory that holds model"):
        open_checkpoint(renamed)


def test_a_pytorch_file_finds_its_configuration(tmp_path: Path) -> None:
    for model in (TINY, TINY / "model.safetensors"):
        assert open_checkpoint(model).config == SpectraConfig.from_json(TINY / "config.json")
    # Under any name, and without one it is taken for the published network, which the tiny one is not.
    weights = shutil.copy(TINY / "model.safetensors", tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match="of this configuration: 336 missing, 0 unexpected"):
        open_checkpoint(weights)
    shutil.copy(TINY / "config.json", tmp_path)
    assert open_checkpoint(weights).config == SpectraConfig.from_json(TINY / "config.json")
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
def test_nothing_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such file or directory\. A model is a native directory"):
        open_checkpoint(name)


def test_what_a_file_states_does_not_steer_the_terminal(
    altered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = altered(origin="\x1b[31m[red]somewhere", notes="x" * 10_000)
    assert spectra(monkeypatch, "info", directory) == 0
    printed = capsys.readouterr().out
    assert r"\x1b[31m[red]somewhere" in printed
    assert printed.count("x") < 1000 and "\x1b" not in printed


# From the Hub


@pytest.fixture
def stand_in(native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A Hub with the tiny network, as people publish it and as this package writes it, and an empty cache."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(client, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    repos = {
        f"org/{name}": {revision: {file.name: file.read_bytes() for file in folder.glob("[cm]o*")}}
        for name, revision, folder in (("tiny", "v1", TINY), ("native", COMMIT, native))
    }
    with HubStandIn(repos) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_from_the_hub(stand_in: HubStandIn, tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
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
    # All three of the repository that was named, none of the origin which that in turn tells of.
    assert found["source"] == name
    assert found["source_revision"] == COMMIT
    assert found["source_sha256"] == hashlib.sha256((native / "model.safetensors").read_bytes()).hexdigest()


def test_a_directory_goes_before_the_hub(
    stand_in: HubStandIn, native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(native, tmp_path / "org" / "tiny")
    assert open_checkpoint("org/tiny").provenance["source"] == "a test"
    assert stand_in.requests == []
