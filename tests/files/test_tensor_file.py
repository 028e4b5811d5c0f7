"""Safetensors files against the safetensors library, files that are none, and writing that is whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import re
import resource
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save, save_file

from spectra_jax.errors import TensorFileError
from spectra_jax.files.atomic import atomic_directory, atomic_file, require_free
from spectra_jax.files.tensor_file import TensorFile, TensorSpec, header_problems, open_tensors, write_tensors

# A file of its own for every example would be right too, but the same name is written over as well.
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
    """A file with this header, right or wrong."""
    header = header.encode() if isinstance(header, str) else header
    return len(header).to_bytes(8, "little") + header + data


def split(path: Path) -> tuple[int, dict]:
    """Where a file's data start, and its header, read as the format's description says."""
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


# The format, and the library's idea of it


@one_folder
@given(contents=tensors, facts=metadata)
def test_the_library_reads_what_is_written(contents: dict, facts: dict, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", contents, facts)
    assert_same(load_file(path), contents)
    with safe_open(path, framework="np") as file:
        assert (file.metadata() or {}) == facts


@one_folder
@given(contents=tensors, facts=metadata)
def test_what_the_library_writes_is_read(contents: dict, facts: dict, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(contents, path, facts or None)  # the library itself writes nonsense for {} and no tensors
    assert_same(read_all(path), contents)
    assert TensorFile(path).metadata == facts


@one_folder
@given(contents=tensors, facts=metadata)
def test_alignment(contents: dict, facts: dict, tmp_path: Path) -> None:
    start, header = split(write(tmp_path / "a.safetensors", contents, facts))
    assert start % 64 == 0
    for name, array in contents.items():
        offset = header[name]["data_offsets"][0]
        assert offset % array.itemsize == 0, name
        assert array.nbytes % 64 or not array.nbytes or offset % 64 == 0, name


def test_the_order_of_writing_does_not_matter(tmp_path: Path) -> None:
    contents = {name: np.full(size, size, np.float32) for name, size in (("a", 5), ("b", 64), ("c", 1), ("d", 64))}
    written = {
        write(tmp_path / "a.safetensors", {name: contents[name] for name in order}).read_bytes()
        for order in permutations(contents)
    }
    assert len(written) == 1


def test_views_are_written_as_they_look(tmp_path: Path) -> None:
    base = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    views = {
        "turned": base.transpose(2, 0, 1),
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
    # Another file in its place, as every writer here puts it, is not the one that was opened.
    write(tmp_path / "b.safetensors", {"a": np.ones(64, np.float32)}).replace(path)
    assert not first.any()


ONE = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("given_tensors", "complaint"),
    [
        ([("a", ONE)], "never written: .'b'."),
        ([], "never written: .'a', 'b'."),
        ([("a", ONE), ("b", ONE), ("a", ONE)], "tensor a .* written already"),
        ([("a", ONE), ("b", ONE), ("c", ONE)], "tensor c .* not announced"),
        ([("a", ONE), ("b", ONE.T)], r"tensor b .*\(3, 2\)"),
        ([("a", ONE), ("b", ONE.astype(np.float64))], "tensor b .*F64"),
        ([("a", ONE), ("b", ONE.astype(np.float16))], "tensor b .*F16"),
        ([("a", ONE), ("b", ONE.astype(">f4"))], "tensor b .*>f4"),
    ],
    ids=["missing", "none", "twice", "unknown", "shape", "wider", "half", "big-endian"],
)
def test_the_writer_refuses_other_than_announced(given_tensors: list, complaint: str) -> None:
    spec = TensorSpec("F32", (2, 3))
    with pytest.raises(ValueError, match=complaint):
        write_tensors(io.BytesIO(), {"a": spec, "b": spec}, given_tensors)


def test_dtypes_that_no_checkpoint_here_has_are_named(tmp_path: Path) -> None:
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


# Files that are none


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


SMALL = save({"weight": np.arange(12, dtype=np.float32).reshape(3, 4), "count": np.array(7)}, {"source": "a test"})
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
        ("ü".encode() * 4000, "a text file"),  # the sample of an odd number of bytes less one ends within a letter
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
def test_what_a_wrong_file_is_called(content: bytes, diagnosis: str, tmp_path: Path) -> None:
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
    assert mark.exists()  # the trap would have shut


@pytest.mark.parametrize("zipped", [True, False])
def test_what_pytorch_saves(zipped: bool, tmp_path: Path) -> None:
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
    with pytest.raises(TensorFileError, match="a header of 16,777,224 bytes, where 16,777,216 are the most"):
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
    # As `sha256sum one.safetensors two.safetensors | sha256sum` has it.
    listed = "".join(f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in PARTS)
    assert file.sha256() == hashlib.sha256(listed.encode()).hexdigest()


@pytest.mark.parametrize(
    ("weight_map", "said"),
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
        ({name: f"{name}.safetensors" for name in map(str, range(1001))}, "1,001 files, where 1,000 are the most"),
        ({"a": "one.safetensors"}, "one.safetensors has tensor b, which the index does not state"),
        ({**WHERE, "d": "two.safetensors"}, "two.safetensors lacks tensor d, which the index states"),
        ({**WHERE, "b": "two.safetensors"}, "one.safetensors has tensor b, which the index does not state"),
    ],
)
def test_an_index_that_does_not_fit(weight_map: object, said: str, tmp_path: Path) -> None:
    index = split_checkpoint(tmp_path, weight_map)
    with pytest.raises(TensorFileError, match=re.escape(said)) as raised:
        open_tensors(index)
    assert str(raised.value).startswith(f"{index}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not an index of safetensors files"),
        ("[" * 100_000, "nested too deeply"),
        ('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', '"a" stands twice in one object'),
        (LFS, "not an index of safetensors files"),
    ],
)
def test_an_index_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(TensorFileError, match=said):
        open_tensors(tmp_path / INDEX)


def test_names_do_not_steer_the_terminal() -> None:
    found = {"\x1b[2J" + "x" * 1000: TensorSpec("F32", (1,)), "Gewicht": TensorSpec("F32", (2,))}
    assert header_problems(found, {}, "tensor") == [
        r"unexpected tensor \x1b[2J" + "x" * 496 + "... [1]",
        "unexpected tensor Gewicht [2]",
    ]


def test_a_file_of_several_that_is_missing(tmp_path: Path) -> None:
    index = split_checkpoint(tmp_path)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"two\.safetensors"):
        open_tensors(index)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TensorFile(tmp_path / "none.safetensors")
    with pytest.raises(IsADirectoryError):
        TensorFile(tmp_path)


def test_every_cut_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for length in range(len(SMALL)):
        path.write_bytes(SMALL[:length])
        with pytest.raises(TensorFileError):
            TensorFile(path)


def test_a_file_cut_while_it_is_open(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": np.ones(5, np.float32), "b": np.ones(64, np.float32)})
    file = TensorFile(path)
    os.truncate(path, path.stat().st_size - 4)
    with pytest.raises(TensorFileError, match="tensor a cannot be read; the file changed since it was opened"):
        file.read("a")


def assert_reads_like_the_library(path: Path) -> None:
    """Refused by both, or the same names, shapes, dtypes and values for both."""
    try:
        with safe_open(path, framework="np") as file:
            expected = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
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
    for place, change in flips:
        content[place] ^= change
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert_reads_like_the_library(path)


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
def test_invented_headers(header: list, data: bytes, tmp_path: Path) -> None:
    # Joined by hand, because a dictionary would not repeat a name.
    text = ",".join(f"{json.dumps(name)}:{json.dumps(entry, default=str)}" for name, entry in header)
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw(f"{{{text}}}", data))
    if len({name for name, _ in header}) < len(header):
        # The library takes the later of two entries; which one was meant, nobody knows.
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


# Whole, or not at all


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file can grow beyond `after` bytes: the system refuses the write that would do it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    with atomic_file(path) as file:
        file.write(b"newer")
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208 (names are what matters)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_that_fails_leaves_what_was_there(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    # The last of it is still in the buffer when the block ends.
    for size in (1001, 100_000):
        with pytest.raises(OSError) as raised, full_disk(1000), atomic_file(path) as file:
            file.write(bytes(size))
        assert raised.value.errno == errno.EFBIG
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link.txt"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with atomic_file(link) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_new_files_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_bytes(b"")
    (tmp_path / "plain").mkdir()
    with atomic_file(tmp_path / "a.txt"):
        pass
    with atomic_directory(tmp_path / "a"):
        pass
    for name in ("a", "a.txt"):
        mode, plain = ((tmp_path / other).stat().st_mode for other in (name, name.replace("a", "plain")))
        assert stat.filemode(mode) == stat.filemode(plain)


def test_names_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    for name in ("a" * 255, "🦜" * 63):
        with atomic_file(tmp_path / name) as file:
            file.write(b"new")
        assert (tmp_path / name).read_bytes() == b"new"


def test_a_file_without_a_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "none" / "a.txt"):
        pass
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError), atomic_file(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_directory(path) as partial:
        (partial / "a.txt").write_bytes(b"new")
        assert not path.exists()
    assert (path / "a.txt").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with atomic_directory(tmp_path / "model") as partial:
        (partial / "a.txt").write_bytes(b"new")
    assert (tmp_path / "model" / "a.txt").read_bytes() == b"new"


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.txt").write_bytes(b"old")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "model"):
        with pytest.raises(FileExistsError, match=f"{name} exists already; choose another name"):
            require_free(tmp_path / name)
        with pytest.raises(FileExistsError, match=name), atomic_directory(tmp_path / name):
            pytest.fail("nothing may be written")
    assert sorted(tmp_path.rglob("*")) == before
    for name in ("other", "model/new"):
        require_free(tmp_path / name)


def test_a_directory_whose_parents_are_missing(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "none" / "yet" / "model") as partial:
        (partial / "a.txt").write_bytes(b"new")
    assert (tmp_path / "none" / "yet" / "model" / "a.txt").read_bytes() == b"new"


def test_a_directory_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    said = re.escape(f"{tmp_path / 'file' / 'model'} cannot be made, because {tmp_path / 'file'} is a file")
    with pytest.raises(NotADirectoryError, match=said), atomic_directory(tmp_path / "file" / "model"):
        pytest.fail("nothing may be written")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_directory_that_fails_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), atomic_directory(tmp_path / "model") as partial:
        (partial / "a.txt").write_bytes(b"new")
        raise error
    assert not any(tmp_path.iterdir())


def test_a_directory_on_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError), full_disk(1000), atomic_directory(tmp_path / "model") as partial:
        (partial / "small.txt").write_bytes(b"new")
        (partial / "large.txt").write_bytes(bytes(2000))
    assert not any(tmp_path.iterdir())


def test_a_name_taken_while_the_directory_was_filled(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(OSError), atomic_directory(path) as partial:
        (partial / "a.txt").write_bytes(b"new")
        path.mkdir()
        (path / "theirs.txt").write_bytes(b"theirs")
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["theirs.txt"]


def test_the_contents_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise a power cut can leave a whole name on half a file.
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor: int) -> None:
        events.append(f"{os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def noting_replace(self: Path, target: Path) -> Path:
        events.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    with atomic_file(tmp_path / "a.txt") as file:
        file.write(bytes(11))
    with atomic_directory(tmp_path / "model") as partial:
        (partial / "b").write_bytes(bytes(22))
        (partial / "c").write_bytes(bytes(33))
    assert events[:2] == ["11 bytes", "a.txt"]
    assert (sorted(events[2:4]), events[4:]) == (["22 bytes", "33 bytes"], ["model"])
