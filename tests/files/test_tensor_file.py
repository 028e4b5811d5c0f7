"""Safetensors files against the safetensors library, and files that are not valid ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import sys
import zipfile
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save, save_file

from spectra_jax.errors import TensorFileError
from spectra_jax.files.tensor_file import TensorFile, TensorSpec, header_problems, open_tensors, write_tensors

# Every example uses the same folder, so that files are overwritten as well.
one_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

dtypes = st.sampled_from([np.dtype(name) for name in ("float32", "float64", "int32", "int64")])
shapes = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)
arrays = st.tuples(dtypes, shapes).flatmap(
    lambda kind: st.binary(min_size=(size := kind[0].itemsize * int(np.prod(kind[1]))), max_size=size).map(
        lambda content: np.frombuffer(content, kind[0]).reshape(kind[1])
    )
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tensors = st.dictionaries(texts.filter(lambda name: name != "__metadata__"), arrays, max_size=6)
metadata = st.dictionaries(texts, texts, max_size=3)


def write(path: Path, contents: dict[str, np.ndarray], facts: dict[str, str] | None = None) -> Path:
    with path.open("wb") as file:
        specs = {name: TensorSpec.of(array) for name, array in contents.items()}
        write_tensors(file, specs, contents.items(), facts)
    return path


def raw(header: str | bytes, data: bytes = b"") -> bytes:
    """A file with this header, valid or not."""
    header = header.encode() if isinstance(header, str) else header
    return len(header).to_bytes(8, "little") + header + data


def split(path: Path) -> tuple[int, dict[str, Any]]:
    """The offset of a file's data, and its header, read by the description of the format."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return start, json.loads(content[8:start])


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name  # bits, since NaN equals nothing


def read_all(path: Path) -> dict[str, np.ndarray]:
    file = TensorFile(path)
    return {name: file.read(name) for name in file.specs}


# The format, against the library


@one_folder
@given(contents=tensors, facts=metadata)
def test_the_library_reads_our_files(contents: dict[str, np.ndarray], facts: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", contents, facts)
    assert_same(load_file(path), contents)
    with safe_open(path, framework="np") as file:
        assert (file.metadata() or {}) == facts


@one_folder
@given(contents=tensors, facts=metadata)
def test_files_of_the_library_are_read(contents: dict[str, np.ndarray], facts: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(contents, path, facts or None)  # the library writes an invalid file for {} and no tensors
    assert_same(read_all(path), contents)
    assert TensorFile(path).metadata == facts


@one_folder
@given(contents=tensors, facts=metadata)
def test_alignment(contents: dict[str, np.ndarray], facts: dict[str, str], tmp_path: Path) -> None:
    start, header = split(write(tmp_path / "a.safetensors", contents, facts))
    assert start % 64 == 0
    for name, array in contents.items():
        offset = header[name]["data_offsets"][0]
        assert offset % array.itemsize == 0, name
        assert array.nbytes % 64 or not array.nbytes or offset % 64 == 0, name


def test_the_order_of_writing_does_not_change_the_file(tmp_path: Path) -> None:
    contents = {name: np.full(size, size, np.float32) for name, size in (("a", 5), ("b", 64), ("c", 1), ("d", 64))}
    written = {
        write(tmp_path / "a.safetensors", {name: contents[name] for name in order}).read_bytes()
        for order in permutations(contents)
    }
    assert len(written) == 1


def test_views_are_written_with_their_values(tmp_path: Path) -> None:
    base = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    views = {
        "transposed": base.transpose(2, 0, 1),
        "backwards": base[::-1, :, ::-2],
        "spread": np.broadcast_to(base[0, 0], (7, 5)),
        "scalar": np.array(3, np.int64),
    }
    assert_same(load_file(write(tmp_path / "a.safetensors", views)), views)


def test_a_tensor_read_is_the_mapped_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": np.zeros(64, np.float32)})
    file = TensorFile(path)
    first, second = file.read("a"), file.read("a")
    assert first.ctypes.data == second.ctypes.data
    assert first.ctypes.data % 64 == 0, "a device cannot use it in place"
    with pytest.raises(ValueError, match="read-only"):
        first[:] = 1
    # Our writers replace a file by another one; the file that was opened does not change.
    write(tmp_path / "b.safetensors", {"a": np.ones(64, np.float32)}).replace(path)
    assert not first.any()


ONE = np.ones((2, 3), np.float32)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which reports the memory of a mapped file")
def test_pages_of_a_tensor_are_released_with_its_view(tmp_path: Path) -> None:
    contents = {name: np.ones(2**18, np.float32) for name in "abcd"}
    path = write(tmp_path / "four-of-a-megabyte.safetensors", contents)

    def resident_kib() -> int:
        mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
        return sum(int(re.findall(r"^Rss: +(\d+) kB", text, re.MULTILINE)[0]) for text in mappings if str(path) in text)

    file = TensorFile(path)
    kept = file.read("b")[1:]
    assert kept.sum() == 2**18 - 1
    for name in "acd":
        assert file.read(name).sum() == 2**18
    # Linux maps a few pages around one that is touched, and tensors share the pages at their ends.
    assert 1000 <= resident_kib() <= 1300
    del kept
    assert resident_kib() <= 256


@pytest.mark.parametrize(
    ("given_tensors", "complaint"),
    [
        ([("a", ONE)], "never written: .'b'."),
        ([], "never written: .'a', 'b'."),
        ([("a", ONE), ("b", ONE), ("a", ONE)], "tensor a .* written already"),
        ([("a", ONE), ("b", ONE), ("c", ONE)], "tensor c .* not in the specs"),
        ([("a", ONE), ("b", ONE.T)], r"tensor b .*\(3, 2\)"),
        ([("a", ONE), ("b", ONE.astype(np.float64))], "tensor b .*F64"),
        ([("a", ONE), ("b", ONE.astype(np.float16))], "tensor b .*F16"),
        ([("a", ONE), ("b", ONE.astype(">f4"))], "tensor b .*>f4"),
    ],
    ids=["missing", "none", "twice", "unknown", "shape", "wider", "half", "big-endian"],
)
def test_the_writer_refuses_other_tensors_than_specified(
    given_tensors: list[tuple[str, np.ndarray]], complaint: str
) -> None:
    spec = TensorSpec("F32", (2, 3))
    with pytest.raises(ValueError, match=complaint):
        write_tensors(io.BytesIO(), {"a": spec, "b": spec}, given_tensors)


def test_dtypes_of_other_networks_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    names = {"BF16": 2, "F16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1}
    header, end = {}, 0
    for name, size in names.items():
        header[name] = {"dtype": name, "shape": [1], "data_offsets": [end, end + size]}
        end += size
    path.write_bytes(raw(json.dumps(header), bytes(end)))
    assert TensorFile(path).specs == {name: TensorSpec(name, (1,)) for name in names}


def test_sha256(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": np.arange(70_000, dtype=np.float32)})
    assert TensorFile(path).sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("header", ['{"__metadata__":null}', '{"__metadata__":{}}', "{}"])
def test_a_file_without_tensors_or_metadata(header: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw(header))
    assert (TensorFile(path).metadata, TensorFile(path).specs) == ({}, {})


# Files that are not safetensors files


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


CONTENTS = {"weight": np.arange(12, dtype=np.float32).reshape(3, 4), "count": np.array(7)}
SMALL = save(CONTENTS, {"source": "a test"})
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1276330956\n"
PICKLED = "a pickled PyTorch file, which is never loaded because it can run code"


@pytest.mark.parametrize(
    ("content", "diagnosis"),
    [
        (b"", "the file is empty"),
        (LFS.encode(), "a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html lang=de><title>Anmelden f\xc3\xbcr Zugriff</title></html>", "a web page"),
        (b"\n  <HTML><body>404</body></HTML>", "a web page"),
        (b"weights, as promised\n", "a text file"),
        ("Gewichte für später\r\n\tund morgen".encode(), "a text file"),
        ("ü".encode() * 4000, "a text file"),  # the first bytes, of which the diagnosis is made, end within a letter
        (b"a" + "ü".encode() * 4000, "a text file"),
        (b'{"a": [ {"b": 1}]}', "a text file"),
        (b'{"abcd":{"b": 1}}', "a text file"),  # a brace where a safetensors header opens
        (bytes(range(128, 256)) * 2, "not a safetensors file"),
        (b"\x00" * 100, "not a safetensors file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a safetensors file"),
        (SMALL[:60], "a safetensors file cut short"),
        (SMALL[:-1], "a damaged or cut safetensors file"),
        (SMALL + b"\0", "a damaged or cut safetensors file"),
        # A header of 640 bytes makes a file begin like a pickle of protocol 2.
        (raw(b"{}".ljust(640), b"\0"), "a damaged or cut safetensors file"),
        (raw(b"{" + b"?" * 70), "a damaged or cut safetensors file"),
    ],
)
def test_the_diagnosis_of_a_wrong_file(content: bytes, diagnosis: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(TensorFileError) as raised:
        TensorFile(path)
    assert str(raised.value).startswith(f"{path}: {diagnosis}")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_unpickled(protocol: int, tmp_path: Path) -> None:
    path, mark = tmp_path / "model.safetensors", tmp_path / "mark"
    pickled = pickle.dumps({"weight": Trap(mark)}, protocol)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
    with pytest.raises(TensorFileError, match=PICKLED):
        TensorFile(path)
    path.write_bytes(pickled)
    with pytest.raises(TensorFileError, match=PICKLED):
        TensorFile(path)
    assert not mark.exists()
    pickle.loads(pickled)
    assert mark.exists()  # so the check above could fail


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_pytorch_saves(zipped: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(TensorFileError, match=PICKLED):
        TensorFile(path)


def test_headers_that_are_too_deep_or_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw('{"a":' * 50_000 + "}" * 50_000))
    with pytest.raises(TensorFileError, match="a damaged or cut safetensors file"):
        TensorFile(path)
    path.write_bytes(raw("{}".ljust(2**24 + 8)))
    with pytest.raises(TensorFileError, match="its header has 16,777,224 bytes; at most 16,777,216 are allowed"):
        TensorFile(path)


def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    fifo, device = tmp_path / "fifo.safetensors", tmp_path / "device.safetensors"
    os.mkfifo(fifo)
    device.symlink_to("/dev/zero")
    for path in (fifo, device):
        with pytest.raises(OSError, match=f"{path} is not a regular file, but a device, pipe or socket"):
            TensorFile(path)


# Several files


INDEX = "model.safetensors.index.json"
PARTS = {"one.safetensors": {"a": np.arange(3.0), "b": np.ones(2)}, "two.safetensors": {"c": np.array(7)}}
WHERE = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}


def split_checkpoint(folder: Path, weight_map: object = WHERE) -> Path:
    for name, contents in PARTS.items():
        write(folder / name, contents)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": weight_map}))
    return folder / INDEX


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    file = open_tensors(split_checkpoint(tmp_path))
    contents = {name: array for part in PARTS.values() for name, array in part.items()}
    assert_same({name: file.read(name) for name in file.specs}, contents)
    assert file.size == sum((tmp_path / name).stat().st_size for name in PARTS)
    # As `sha256sum one.safetensors two.safetensors | sha256sum` prints it.
    listed = "".join(f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in PARTS)
    assert file.sha256() == hashlib.sha256(listed.encode()).hexdigest()


@pytest.mark.parametrize(
    ("weight_map", "expected"),
    [
        (None, "it has no weight_map of tensors to files"),
        ({}, "it has no weight_map"),
        ([], "it has no weight_map"),
        ({"a": 3}, "weight_map has 3 for a, which is not the name of a .safetensors file beside the index"),
        ({"a": "../one.safetensors"}, "weight_map has '../one.safetensors' for a"),
        ({"a": "/etc/one.safetensors"}, "is not the name of"),
        ({"a": "b\\one.safetensors"}, "is not the name of"),
        ({"a": "..safetensors"}, "is not the name of"),
        ({"a": "one.bin"}, "weight_map has 'one.bin' for a"),
        ({name: f"{name}.safetensors" for name in map(str, range(1001))}, "1,001 files; at most 1,000 are allowed"),
        ({"a": "one.safetensors"}, "one.safetensors has tensor b, which the index does not state"),
        ({**WHERE, "d": "two.safetensors"}, "two.safetensors lacks tensor d, which the index states"),
        ({**WHERE, "b": "two.safetensors"}, "one.safetensors has tensor b, which the index does not state"),
    ],
)
def test_an_index_that_does_not_match_its_files(weight_map: object, expected: str, tmp_path: Path) -> None:
    index = split_checkpoint(tmp_path, weight_map)
    with pytest.raises(TensorFileError, match=re.escape(expected)) as raised:
        open_tensors(index)
    assert str(raised.value).startswith(f"{index}: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not an index of safetensors files"),
        ("[" * 100_000, "nested too deeply"),
        ('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', '"a" occurs twice in one object'),
        (LFS, "not an index of safetensors files"),
    ],
)
def test_a_file_that_is_not_an_index(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(TensorFileError, match=expected):
        open_tensors(tmp_path / INDEX)


def test_control_characters_in_names_are_escaped() -> None:
    found = {"\x1b[2J" + "x" * 1000: TensorSpec("F32", (1,)), "Gewicht": TensorSpec("F32", (2,))}
    assert header_problems(found, {}, "tensor") == [
        r"unexpected tensor \x1b[2J" + "x" * 496 + "... [1]",
        "unexpected tensor Gewicht [2]",
    ]


def test_a_file_of_several_that_is_missing(tmp_path: Path) -> None:
    index = split_checkpoint(tmp_path)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 file that this index names is missing beside it: two\.safetensors"):
        open_tensors(index)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TensorFile(tmp_path / "none.safetensors")
    with pytest.raises(IsADirectoryError):
        TensorFile(tmp_path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for length in range(len(SMALL)):
        path.write_bytes(SMALL[:length])
        with pytest.raises(TensorFileError):
            TensorFile(path)
    path.write_bytes(SMALL)
    assert_same(read_all(path), CONTENTS)


def test_a_file_cut_while_it_is_open(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": np.ones(5, np.float32), "b": np.ones(64, np.float32)})
    file = TensorFile(path)
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(TensorFileError, match="tensor a cannot be read; the file changed since it was opened"):
        file.read("a")


def assert_reads_like_the_library(path: Path) -> None:
    """Check that both refuse the file, or both read the same names, shapes, dtypes and values."""
    try:
        with safe_open(path, framework="np") as file:
            expected = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            specs = {name: TensorSpec(part.get_dtype(), tuple(part.get_shape())) for name, part in expected.items()}
            facts = file.metadata() or {}
    except SafetensorError:
        with pytest.raises(TensorFileError):
            TensorFile(path)
        return
    found = TensorFile(path)
    assert (found.specs, found.metadata) == (specs, facts)
    if {spec.dtype for spec in specs.values()} <= {"F32", "F64", "I32", "I64"}:
        assert_same({name: found.read(name) for name in found.specs}, load_file(path))


@settings(one_folder, max_examples=400)
@given(
    flips=st.lists(
        st.tuples(st.integers(0, len(SMALL) - 1), st.integers(1, 255)), min_size=1, max_size=3, unique_by=lambda f: f[0]
    )
)
def test_flipped_bytes(flips: list[tuple[int, int]], tmp_path: Path) -> None:
    content = bytearray(SMALL)
    for position, change in flips:
        content[position] ^= change
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert_reads_like_the_library(path)
    # A reader that refuses everything would otherwise pass, where the library refuses every example.
    path.write_bytes(SMALL)
    assert_same(read_all(path), CONTENTS)
    assert TensorFile(path).metadata == {"source": "a test"}


numbers = st.one_of(st.integers(0, 24), st.sampled_from([-1, 2**31, 2**63 - 1, 2**63, 2**64, 1.0, None, "4"]))
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I64", "I32", "BF16", "F16", "U8", "f32", "", None]),
        "shape": st.one_of(st.lists(numbers, max_size=3), st.none()),
        "data_offsets": st.one_of(st.sampled_from([[0, 8], [8, 16], [0, 16]]), st.lists(numbers, max_size=3)),
    }
)
headers = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b", "\u00e4", ""]), entries),
        st.tuples(st.just("__metadata__"), st.sampled_from([None, {}, {"k": "v"}, {"k": 1}, "text", entries])),
    ),
    max_size=3,
)


@settings(one_folder, max_examples=400)
@given(header=headers, data=st.sampled_from([b"", bytes(8), bytes(16)]))
@example(header=[("a", {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})] * 2, data=bytes(8))
@example(
    header=[
        ("a", {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}),
        ("a", {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}),
    ],
    data=bytes(16),
)
@example(header=[("a", {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]})], data=b"")
def test_invented_headers(header: list[tuple[str, object]], data: bytes, tmp_path: Path) -> None:
    # Joined as text, because a dictionary cannot repeat a name.
    text = ",".join(f"{json.dumps(name)}:{json.dumps(entry, default=str)}" for name, entry in header)
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw(f"{{{text}}}", data))
    if len({name for name, _ in header}) < len(header):
        # The library takes the second of two entries, which may be the wrong one.
        with pytest.raises(TensorFileError):
            TensorFile(path)
    else:
        assert_reads_like_the_library(path)


@one_folder
@given(content=st.binary(max_size=64))
def test_arbitrary_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert_reads_like_the_library(path)
