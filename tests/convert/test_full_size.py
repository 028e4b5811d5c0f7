"""Converting a network of the published size: memory, names, and interruption."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.convert.table import WEIGHT_NORM
from tests.conftest import GOLDEN
from tests.convert.pytorch_files import (
    Tensors,
    assert_only_the_pair_was_rounded,
)
from tests.programs.started import started

# One tensor at a time takes 0.4, Python and JAX included; all tensors at once would take more than 1.
LARGEST_SHARE = 0.75


@pytest.fixture(scope="module")
def full_native(full_pytorch_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, float]]:
    """The full network converted in a child process, and the peak memory of this process divided by the file size."""
    folder = tmp_path_factory.mktemp("full_native")
    yield folder / "native", peak(full_pytorch_file, folder / "native")
    for path in (folder / "native").iterdir():
        path.unlink()


def peak(source: Path, destination: Path, to: str = "native") -> float:
    """Convert in a child process; its peak memory divided by the size of the weights, 1.28 GB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak is read from /proc")
    with started("convert_and_print_peak", source, destination, to) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return int(out) * 1024 / 1_276_330_956


def assert_published_tensors(path: Path) -> None:
    """Assert that a file has the published file's names, dtypes and shapes."""
    with (GOLDEN / "checkpoint_tensors.tsv").open(newline="") as table:
        rows = {row["name"]: (row["dtype"], row["shape"]) for row in csv.DictReader(table, delimiter="\t")}
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {n: (e["dtype"], ",".join(map(str, e["shape"]))) for n, e in header.items()} == rows


@pytest.mark.full
def test_memory_stays_bounded(
    full_native: tuple[Path, float],
    full_checkpoint: Checkpoint,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    native, share = full_native
    record_testsuite_property("peak memory of converting to native, in sizes of the file", round(share, 3))
    # The file is complete and has the weights of the network.
    assert (native / "model.safetensors").stat().st_size > 1.27e9
    converted = open_checkpoint(native)
    assert converted.provenance["source_sha256"]
    for path in ("encoder.layers.23.feed_forward_out.kernel", "aasist.head.spline_weight"):
        np.testing.assert_array_equal(converted.read[path](), full_checkpoint.read[path]())
    assert share < LARGEST_SHARE


@pytest.mark.full
def test_back_to_pytorch_the_tensors_are_the_same(
    full_native: tuple[Path, float],
    full_pytorch_file: Path,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    native, _ = full_native
    back = tmp_path / "model.safetensors"
    share = peak(native, back, "torch")
    record_testsuite_property("peak memory of converting to torch, in sizes of the file", round(share, 3))
    assert_published_tensors(full_pytorch_file)
    assert_published_tensors(back)
    assert share < LARGEST_SHARE
    from safetensors import safe_open

    pairs: tuple[Tensors, Tensors] = ({}, {})
    with safe_open(back, framework="np") as found, safe_open(full_pytorch_file, framework="np") as wanted:
        for name in wanted.keys():  # noqa: SIM118 (is not a mapping)
            tensors = found.get_tensor(name), wanted.get_tensor(name)
            if name in WEIGHT_NORM:
                for pair, tensor in zip(pairs, tensors, strict=True):
                    pair[name] = tensor
            else:
                np.testing.assert_array_equal(*tensors, err_msg=name)
    assert_only_the_pair_was_rounded(*pairs)
    back.unlink()


@pytest.mark.full
def test_a_killed_conversion_leaves_no_checkpoint(full_pytorch_file: Path, tmp_path: Path) -> None:
    destination = tmp_path / "native"
    with started("convert_and_print_peak", full_pytorch_file, destination) as process:
        while not any(path.stat().st_blocks * 512 > 10**8 for path in tmp_path.glob(".native.*/model.safetensors")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert not destination.exists()
    for path in tmp_path.glob(".native.*/*"):
        path.unlink()
