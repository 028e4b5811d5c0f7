"""The native format: exactness, strictness, and the message for each fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import load_model
from spectra_jax.checkpoints.native import read_native, write_native
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.errors import CheckpointError, ConfigError, TensorFileError
from tests.checkpoints.native_files import COUNT, KERNEL, TINY, Tensors, assert_same, metadata_of
from tests.conftest import spectra


def test_what_is_written_is_read_back(tiny_checkpoint: Checkpoint, native: Path, tmp_path: Path) -> None:
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


def test_any_reader_of_safetensors_can_read_it(native: Path) -> None:
    config = json.loads((native / "config.json").read_text())
    assert config == json.loads((TINY / "config.json").read_text())
    assert metadata_of(native) == {"format": "spectra-jax", "format_version": "1", "source": "a test"}
    tensors = load_file(native / "model.safetensors")
    # The product of two float32 numbers has more digits than float32; all other weights are float32 or integers.
    assert {path for path, array in tensors.items() if array.dtype == np.float64} == {KERNEL}
    assert np.any(tensors[KERNEL] != tensors[KERNEL].astype(np.float32))
    assert {array.dtype.name for array in tensors.values()} == {"float32", "float64", "int32"}


def test_large_tensors_are_aligned(native: Path) -> None:
    content = (native / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    large = [e["data_offsets"] for name, e in header.items() if name != "__metadata__" and np.prod(e["shape"]) >= 1024]
    assert len(large) > 50
    assert all((start + begin) % 64 == 0 for begin, _ in large)


def test_all_faults_of_the_header_are_reported_together(altered: Callable[..., Path]) -> None:
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
        "missing tensor aasist.head.slope [1]",
        "missing tensor bridge.linear1.bias [48]",
        "unexpected tensor aasist.head.slop [1]",
    ]
    for problem in raised.value.problems:
        assert problem in str(raised.value)


def test_all_damaged_values_are_reported_together(altered: Callable[..., Path], tmp_path: Path) -> None:
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
def test_another_version_of_the_format_is_refused(
    facts: dict[str, str], version: str, altered: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError, match=f"version {version} of the native format, .* reads version 1; convert"):
        open_checkpoint(altered(**facts))


def test_the_configuration_of_another_network_is_refused(altered: Callable[..., Path]) -> None:
    directory = altered()
    config = read_native(directory).config
    encoder = replace(config.encoder, num_hidden_layers=2)
    (directory / "config.json").write_text(replace(config, bridge_dim=24, encoder=encoder).to_json())
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(directory)
    assert "bridge.linear1.kernel has shape [64, 48], expected [64, 24]" in raised.value.problems
    assert sum("unexpected tensor encoder.layers.2." in problem for problem in raised.value.problems) == 16
    # The message is cut after 20 problems; the list is complete.
    assert len(str(raised.value).splitlines()) == 22
    assert str(raised.value).endswith(f"and {len(raised.value.problems) - 20} more")


def test_a_missing_or_invalid_configuration_is_reported(altered: Callable[..., Path]) -> None:
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
def copy(native: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, to be changed and restored."""
    return shutil.copytree(native, tmp_path_factory.mktemp("fuzz") / "native")


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_header_never_changes_the_weights(data: st.DataObject, native: Path, copy: Path) -> None:
    weights = copy / "model.safetensors"
    sound = (native / "model.safetensors").read_bytes()
    length = 8 + int.from_bytes(sound[:8], "little")
    # A flip in a name, a shape or an offset is likelier to pass the first checks than one anywhere.
    position = data.draw(st.one_of(st.integers(0, length - 1), st.integers(0, 8 + 500)), label="position")
    change = data.draw(st.integers(1, 255), label="change")
    with weights.open("r+b") as file:
        file.seek(position)
        file.write(bytes([sound[position] ^ change]))
    try:
        try:
            found = dict(open_checkpoint(copy))
        except (TensorFileError, CheckpointError):
            found = None
    finally:
        with weights.open("r+b") as file:
            file.seek(position)
            file.write(sound[position : position + 1])
    # If the changed file was refused, the restored one must be accepted.
    assert_same(dict(open_checkpoint(copy)) if found is None else found, read_native(native))


def test_metadata_cannot_control_the_terminal(
    altered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = altered(origin="\x1b[31m[red]somewhere", notes="x" * 10_000)
    assert spectra(monkeypatch, "info", directory) == 0
    printed = capsys.readouterr().out
    assert r"\x1b[31m[red]somewhere" in printed
    assert printed.count("x") < 1000 and "\x1b" not in printed
