"""Converting to the native format and back: exactness, provenance, sources, destinations and interruptions."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import spectra_jax
from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.convert import convert
from spectra_jax.convert.table import WEIGHT_NORM
from spectra_jax.errors import ConfigError, TensorFileError
from tests.conftest import expected, golden_windows, spectra
from tests.convert.pytorch_files import (
    FORMATS,
    SETTINGS,
    TINY,
    TINY_CONFIG,
    Format,
    Tensors,
    assert_only_the_pair_was_rounded,
    assert_same,
    configs,
    folded,
    in_old_style,
    save,
)
from tests.programs.started import started


def test_to_native_and_back(tiny: Tensors, tmp_path: Path) -> None:
    convert(TINY, tmp_path / "native")
    convert(tmp_path / "native", tmp_path / "torch", "torch")
    convert(tmp_path / "native", tmp_path / "torch.safetensors", "torch")
    convert(TINY, tmp_path / "straight", "torch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["native", "straight", "torch", "torch.safetensors"]
    assert {path.name for path in (tmp_path / "torch").iterdir()} == {"config.json", "model.safetensors"}
    assert read_config(tmp_path / "torch" / "config.json") == TINY_CONFIG

    found = load_file(tmp_path / "torch" / "model.safetensors")
    assert_only_the_pair_was_rounded(found, tiny)
    np.testing.assert_array_equal(found[WEIGHT_NORM[0]], tiny[WEIGHT_NORM[0]])
    for other in ("torch.safetensors", "straight/model.safetensors"):
        assert (tmp_path / other).read_bytes() == (tmp_path / "torch" / "model.safetensors").read_bytes()

    # Later conversions round that one kernel only.
    convert(tmp_path / "torch", tmp_path / "again")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("native", "again"))
    kernel = "encoder.positional_convolution.conv.kernel"
    np.testing.assert_allclose(second.pop(kernel), first.pop(kernel), rtol=2.0**-23, atol=0)
    assert_same(second, first)


def test_the_reference_loads_what_comes_back(tiny: Tensors, tmp_path: Path, oracle: ModuleType) -> None:
    import torch

    convert(TINY, tmp_path / "native")
    convert(tmp_path / "native", tmp_path / "torch", "torch")
    # The weights matter and not the window, so a short one.
    windows = torch.from_numpy(golden_windows(expected("tiny")["waveforms"][:1])[:, :5_000]).double()
    with torch.no_grad():
        wanted = oracle.load_oracle(SETTINGS["tiny"], tiny)(windows).numpy()
        model = oracle.load_oracle(SETTINGS["tiny"], load_file(tmp_path / "torch" / "model.safetensors"))
        found = model(windows).numpy()
    # They differ by the rounding of the weight norm only.
    assert found.shape == (1, 2)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=8)
@given(settings_=configs(), seed=st.integers(0, 2**31), old_style=st.booleans())
def test_any_network_there_and_back(
    settings_: dict[str, Any], seed: int, old_style: bool, oracle: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import safetensors.torch
    import torch

    torch.manual_seed(seed)
    state = oracle.SpectraAASIST3(settings_).state_dict()
    tensors = {name: tensor.numpy() for name, tensor in state.items()}
    folder = tmp_path_factory.mktemp("network")
    given_tensors = in_old_style(tensors) if old_style else tensors
    convert(save(folder / "source", given_tensors, settings_), folder / "native")
    convert(folder / "native", folder / "torch", "torch")
    found = load_file(folder / "torch" / "model.safetensors")
    assert_only_the_pair_was_rounded(found, tensors)
    # PyTorch's own reader requires alignment, and the reference loads strictly.
    assert safetensors.torch.load_file(folder / "torch" / "model.safetensors").keys() == state.keys()
    oracle.load_oracle(settings_, found, torch.float32)


def test_weight_norms_of_every_size(tiny: Tensors, tmp_path: Path, oracle: ModuleType) -> None:
    import torch

    g, v = (tiny[name] for name in WEIGHT_NORM)
    g[0, 0, :100] = np.logspace(-44, 37, 100)
    g[0, 0, 100:104] = [0, -0.0, -1, 1e38]
    v[..., 104:110] *= np.array([1e-38, 1e-30, 1e-20, 1e20, 1e30, 1e37], np.float32)
    v[..., 110] = 0
    v[3, 1, 110] = 1e-45
    convert(save(tmp_path / "source", tiny), tmp_path / "native")
    convert(tmp_path / "native", tmp_path / "torch", "torch")
    found = load_file(tmp_path / "torch" / "model.safetensors")
    assert_only_the_pair_was_rounded(found, tiny)
    # The kernel is also right in float32, in which PyTorch squares the direction.
    model = oracle.load_oracle(SETTINGS["tiny"], found, torch.float32)
    kernel = model.ssl_encoder.model.encoder.pos_conv_embed.conv.weight.detach().numpy()
    np.testing.assert_allclose(kernel, folded(tiny), rtol=1e-5, atol=1e-44)


def test_the_demo_is_converted_to_pytorch(tmp_path: Path) -> None:
    convert("demo", tmp_path / "torch", "torch")
    convert(tmp_path / "torch", tmp_path / "native")
    wanted, found = dict(open_checkpoint("demo")), dict(open_checkpoint(tmp_path / "native"))
    assert found.keys() == wanted.keys()
    for path, array in wanted.items():
        np.testing.assert_allclose(found[path], array, rtol=2.0**-23 if array.dtype == np.float64 else 0, atol=0)


def test_the_origin_is_recorded(tmp_path: Path) -> None:
    convert(TINY / "model.safetensors", tmp_path / "native")
    facts = {
        "source": str(TINY / "model.safetensors"),
        "source_format": "pytorch",
        "source_sha256": hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest(),
        "converter_version": spectra_jax.__version__,
        "format": "spectra-jax",
        "format_version": "1",
    }
    assert open_checkpoint(tmp_path / "native").provenance == facts
    # A copy of the copy still states the file that the weights came from.
    convert(tmp_path / "native", tmp_path / "copy")
    assert open_checkpoint(tmp_path / "copy").provenance == facts
    # The format of the reference has no metadata.
    convert(tmp_path / "native", tmp_path / "model.safetensors", "torch")
    with (tmp_path / "model.safetensors").open("rb") as file:
        assert "__metadata__" not in json.loads(file.read(int.from_bytes(file.read(8), "little")))


def saved_by_pytorch(zipped: bool) -> bytes:
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    stream = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda: b"", "the file is empty"),
        (lambda: (TINY / "model.safetensors").read_bytes()[:1_000_000], "a damaged or cut safetensors file of 1,000,0"),
        (lambda: (TINY / "model.safetensors").read_bytes()[:1000], "cut short: its header alone has 80,128 bytes"),
        (lambda: saved_by_pytorch(True), "a pickled PyTorch file, which is never loaded because it can run code"),
        (lambda: saved_by_pytorch(False), "a pickled PyTorch file, which is never loaded because it can run code"),
        (lambda: b"hello", "a text file, not a safetensors file"),
        (lambda: b"<!doctype html><title>Sign in</title>", "a web page, not the weights"),
        (lambda: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
    ids=["empty", "cut", "cut-header", "zip", "legacy", "text", "html", "lfs"],
)
@pytest.mark.parametrize("as_file", [False, True])
def test_files_without_weights_are_refused(
    content: Callable[[], bytes], sentence: str, as_file: bool, tmp_path: Path
) -> None:
    weights = tmp_path / ("model.safetensors" if not as_file else "weights.bin")
    weights.write_bytes(content())
    with pytest.raises(TensorFileError, match=sentence):
        convert(weights if as_file else tmp_path, tmp_path / "native")
    assert list(tmp_path.iterdir()) == [weights]


def test_missing_sources_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(FileNotFoundError, match="bare: the directory holds no model"):
        convert(tmp_path / "bare", tmp_path / "native")
    (tmp_path / "bare" / "pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"Its pytorch_model.bin is a pickle.*`safetensors.torch.save_file`"):
        convert(tmp_path / "bare", tmp_path / "native")
    (tmp_path / "bare" / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match="no such file or directory"):
        convert(tmp_path / "none", tmp_path / "native")
    save(tmp_path / "bare", load_file(TINY / "model.safetensors"), "[]")
    with pytest.raises(ConfigError, match="expected a JSON object"):
        convert(tmp_path / "bare", tmp_path / "native")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


@pytest.mark.parametrize("to", ["native", "torch"])
def test_a_destination_in_use_is_left_alone(to: Format, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    for path in (tmp_path / "used" / "notes.txt", tmp_path / "model.safetensors"):
        path.write_text("mine")
        with pytest.raises(FileExistsError, match="exists already; choose another name or remove it first"):
            convert(TINY, path.parent if path.suffix == ".txt" else path, to)
        assert path.read_text() == "mine"
    assert len(list(tmp_path.rglob("*"))) == 3


@pytest.mark.parametrize(("name", "to"), [("native", "native"), ("torch", "torch"), ("model.safetensors", "torch")])
def test_missing_parents_are_created(name: str, to: Format, tmp_path: Path) -> None:
    destination = tmp_path / "none" / "yet" / name
    convert("demo", destination, to)
    assert destination.is_file() if destination.suffix else (destination / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["native", "model.safetensors"])
def test_a_destination_below_a_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    destination = tmp_path / "file" / "none" / name
    with pytest.raises(NotADirectoryError) as raised:
        convert(TINY, destination, "torch")
    assert str(raised.value) == f"{destination} cannot be created, because {tmp_path / 'file'} is a file"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_destination_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the source is opened, which may be a download of a gigabyte."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(PermissionError) as raised:
        convert(tmp_path / "no source", tmp_path / "new" / "native")
    assert (
        str(raised.value) == f"{tmp_path / 'new' / 'native'} cannot be created, because you may not write to {tmp_path}"
    )


def test_a_broken_link_as_destination_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="link exists already"):
        convert("demo", tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("to", ["native", "torch"])
@pytest.mark.parametrize("name", ["model.onnx", "model.PT", "model.bin", "model.h5", "model.npz", "model.ckpt"])
def test_a_directory_with_the_name_of_a_file_is_refused(name: str, to: Format, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as raised:
        convert("demo", tmp_path / name, to)
    assert str(raised.value) == (
        f"{tmp_path / name}: {Path(name).suffix.lower()} is the ending of a file, and the {to} format is a directory "
        "of config.json and model.safetensors. Name a directory, or write one file: for PyTorch with --to torch and a "
        "name that ends in .safetensors, for ONNX with --to onnx and one that ends in .onnx; no other format can be "
        "written"
    )
    assert not any(tmp_path.iterdir())


def test_writing_a_file_without_its_configuration_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, reported in (("demo.safetensors", True), ("demo", False)):
        assert spectra(monkeypatch, "convert", "demo", tmp_path / name, "--to", "torch") == 0
        assert ("does not state it. Put the config.json" in capsys.readouterr().err) == reported


def test_the_native_format_is_not_one_file(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"\.safetensors is the ending of a file, and the native format is a directory"
    ):
        convert("demo", tmp_path / "model.safetensors")
    convert("demo", tmp_path / "model.v1.2")  # a dot does not make an ending


def test_the_destination_is_checked_before_the_source(tmp_path: Path) -> None:
    # The source may be a download of a gigabyte.
    (tmp_path / "used").write_text("mine")
    with pytest.raises(FileExistsError):
        convert(tmp_path / "none", tmp_path / "used")


@pytest.mark.usefixtures("annotations_unchecked")
def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'pytorch' is not a format; formats are native, torch and onnx"):
        convert(TINY, tmp_path / "model", "pytorch")  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


@contextmanager
def small_disk(folder: Path) -> Iterator[int]:
    """Mount a file system of one mebibyte at `folder` if this user may; the error number of a full one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield errno.ENOSPC
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_files(folder: Path) -> Iterator[int]:
    """No file can be larger than one mebibyte; the error number of a larger one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        yield errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [small_disk, small_files])
@pytest.mark.parametrize(("name", "to"), FORMATS)
def test_a_full_disk_leaves_no_file(
    limit: Callable[[Path], AbstractContextManager[int]], name: str, to: Format, tmp_path: Path
) -> None:
    with limit(tmp_path) as number:
        with pytest.raises(OSError) as raised:
            convert(TINY, tmp_path / name, to)
        assert raised.value.errno == number
        assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_conversion_leaves_no_checkpoint(end: signal.Signals, tmp_path: Path) -> None:
    with started("convert_until_stopped", TINY, tmp_path / "native") as process:
        assert process.stdout is not None and process.stdout.readline() == "half\n", process.communicate()[1]
        assert not (tmp_path / "native").exists()
        process.send_signal(end)
        process.wait(60)
        assert process.returncode != 0
    assert not (tmp_path / "native").exists()
    # Ctrl-C still deletes the partial directory; after SIGKILL a hidden one may be left.
    left = list(tmp_path.iterdir())
    assert not left if end == signal.SIGINT else all(path.name.startswith(".native.") for path in left)
    convert(TINY, tmp_path / "native")
    open_checkpoint(tmp_path / "native")
