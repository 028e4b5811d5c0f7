"""Safetensors files, read and written one tensor at a time, so that a checkpoint may be larger than the memory."""

from __future__ import annotations

import codecs
import hashlib
import json
import mmap
import os
import re
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from spectra_jax.errors import TensorFileError
from spectra_jax.files.untrusted import open_regular, parse_json, read_json
from spectra_jax.messages import count, shortened

# The dtypes of this network's checkpoints; any other is reported by its safetensors name.
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# The data start at a multiple of this many bytes, and so does every tensor whose size is one: any device can then use
# the mapped file without a copy.
_ALIGNMENT = 64
# A header has about a hundred bytes for each tensor, of which a checkpoint of this network has about a thousand.
_LONGEST_HEADER = 16 * 2**20
_MOST_SHARDS = 1000
_MAX_NAMED = 3


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as a file's header describes it: safetensors dtype name, and shape."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> TensorSpec:
        return cls(_NAMES.get(array.dtype, str(array.dtype)), array.shape)


def header_problems(found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec], called: str) -> list[str]:
    """How a file's tensors differ from those expected, a sentence each; `called` is the noun for an expected one."""
    problems = []
    # By name, so that the two names of a renamed tensor are next to each other.
    for name in sorted(set(expected) | set(found)):
        spec, want = found.get(name), expected.get(name)
        if spec is None:
            problems.append(f"missing {called} {name} {list(expected[name].shape)}")
        elif want is None:
            problems.append(f"unexpected tensor {shortened(name)} {list(spec.shape)}")
        else:
            if spec.shape != want.shape:
                problems.append(f"{name} has shape {list(spec.shape)}, expected {list(want.shape)}")
            if spec.dtype != want.dtype:
                problems.append(f"{name} has dtype {spec.dtype}, expected {want.dtype}")
    return problems


class TensorFile:
    """An opened safetensors file whose tensors are read one by one.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as for any file.
      OSError: a device or pipe.
      TensorFileError: not a safetensors file, or one that is cut short.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with open_regular(self.path) as file:
            try:
                # The library checks sizes, offsets, overlaps, gaps and the end of the file.
                with safe_open(self.path, framework="np"):
                    pass
            except SafetensorError as error:
                raise TensorFileError(f"{path}: {_diagnose(file)} ({error})") from error
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                raise TensorFileError(
                    f"{path}: its header has {length:,} bytes; at most {_LONGEST_HEADER:,} are allowed"
                )
            try:
                header = parse_json(file.read(length))
            except ValueError as error:
                raise TensorFileError(f"{path}: a damaged safetensors file; its header: {error}") from error
            # A mapped file is in memory once, however many processes read it, and a CPU uses it without a copy.
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._data_start = 8 + length
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        self._offsets = {name: entry["data_offsets"][0] for name, entry in ordered}
        self.specs = {name: TensorSpec(entry["dtype"], tuple(entry["shape"])) for name, entry in ordered}
        """Every tensor's dtype and shape, in the order of the file."""

    def read(self, name: str) -> np.ndarray:
        """One tensor, a read-only view of the mapped file, whose pages are read from the disk when they are used.

        They are released with the view, which is valid while nobody writes into the file; replacing the file by another
        one is safe.
        """
        # Touching a page behind the end of a truncated file would kill the process.
        if self._mapped.size() != len(self._mapped):
            raise TensorFileError(f"{self.path}: tensor {name} cannot be read; the file changed since it was opened")
        start, spec = self._data_start + self._offsets[name], self.specs[name]
        array = np.ndarray(spec.shape, _DTYPES[spec.dtype], self._mapped, start)
        # A loop that copies the tensors then has one or two of them in memory at a time. A device that uses the mapped
        # file without a copy keeps the view, and with it the pages.
        weakref.finalize(array, _release_pages, self._mapped, start, array.nbytes).atexit = False
        return array

    def sha256(self) -> str:
        """The digest of the complete file, as the Hub publishes it."""
        with self.path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size


class ShardedTensorFile:
    """Several safetensors files that an index names, read as one.

    Raises:
      OSError: one of the files is missing, or cannot be read.
      TensorFileError: not an index, or the tensors of the files are not those that it states.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._shard_of = read_index(path)
        stated: dict[str, set[str]] = {shard: set() for shard in sorted(set(self._shard_of.values()))}
        for name, shard in self._shard_of.items():
            stated[shard].add(name)
        missing = sorted(shard for shard in stated if not (self.path.parent / shard).exists())
        if missing:
            raise FileNotFoundError(
                f"{path}: {count(len(missing), 'file')} that this index names {'is' if len(missing) == 1 else 'are'} "
                f"missing beside it: {', '.join(missing[:_MAX_NAMED])}{', ...' if len(missing) > _MAX_NAMED else ''}"
            )
        self._shards = {shard: TensorFile(self.path.parent / shard) for shard in stated}
        for shard, file in self._shards.items():
            for difference, what in (
                (stated[shard] - set(file.specs), "lacks {}, which the index states"),
                (set(file.specs) - stated[shard], "has {}, which the index does not state"),
            ):
                if difference:
                    more = f" and {len(difference) - 1:,} more tensors" if len(difference) > 1 else ""
                    raise TensorFileError(
                        f"{path}: {shard} {what.format(f'tensor {shortened(min(difference))}{more}')}"
                    )
        self.metadata: dict[str, str] = {}
        self.specs = {name: spec for file in self._shards.values() for name, spec in file.specs.items()}
        """Every tensor's dtype and shape, in the order of the files."""

    def read(self, name: str) -> np.ndarray:
        """One tensor, as `TensorFile.read` gives it."""
        return self._shards[self._shard_of[name]].read(name)

    def sha256(self) -> str:
        """The `combined_sha256` of the files."""
        return combined_sha256({name: file.sha256() for name, file in self._shards.items()})

    @property
    def size(self) -> int:
        """Bytes on disk, without the index."""
        return sum(file.size for file in self._shards.values())


def open_tensors(path: str | Path) -> TensorFile | ShardedTensorFile:
    """Open a safetensors file, or the index (`*.safetensors.index.json`) of several; raises as either class does."""
    return (ShardedTensorFile if str(path).endswith(".index.json") else TensorFile)(path)


def combined_sha256(digests: Mapping[str, str]) -> str:
    """One digest for several files: the sha256 of the output of `sha256sum` for them, sorted by name."""
    return hashlib.sha256("".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()).hexdigest()


def read_index(path: str | Path) -> dict[str, str]:
    """The file name of each tensor, from the index of a checkpoint in several files, which are beside the index.

    Raises:
      OSError: the index cannot be read.
      TensorFileError: not an index, or one that names files elsewhere.
    """
    try:
        index = read_json(path)
    except ValueError as error:
        raise TensorFileError(f"{path}: not an index of safetensors files ({error})") from error
    shard_of = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shard_of, dict) or not shard_of:
        raise TensorFileError(f"{path}: not an index of safetensors files: it has no weight_map of tensors to files")
    for name, shard in shard_of.items():
        # A plain name on any system: a path could lead anywhere.
        if not isinstance(shard, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors", shard):
            raise TensorFileError(
                f"{path}: weight_map has {shard!r:.100} for {shortened(name, 100)}, which is not the name of a "
                ".safetensors file beside the index"
            )
    if len(shards := set(shard_of.values())) > _MOST_SHARDS:
        raise TensorFileError(f"{path}: {len(shards):,} files; at most {_MOST_SHARDS:,} are allowed")
    return shard_of


def _release_pages(mapped: mmap.mmap, start: int, length: int) -> None:
    """Unmap the pages of a part of a mapped file. They are mapped again when they are touched."""
    if length and hasattr(mmap, "MADV_DONTNEED"):
        first = start - start % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, first, start + length - first)


def _diagnose(file: BinaryIO) -> str:
    """What a file that is not a valid safetensors file seems to be."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(0)
    head = file.read(4096)
    if size == 0:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`"
    # The first nine bytes of a safetensors file are known: the length of its header and the header's opening brace.
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header <= _LONGEST_HEADER:
        if size < 8 + header:
            return f"a safetensors file cut short: its header alone has {header:,} bytes, the file {size:,}"
        return f"a damaged or cut safetensors file of {size:,} bytes; fetch it again"
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return (
            "a pickled PyTorch file, which is never loaded because it can run code; "
            "save it as safetensors with `safetensors.torch.save_file`"
        )
    if re.match(rb"\s*<(!doctype html|html)\b", head, re.IGNORECASE):
        return "a web page, not the weights; a download that was redirected to a login or an error page gives one"
    try:
        # Incremental, because these first bytes may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "not a safetensors file"
    return "a text file, not a safetensors file" if "".join(text.split()).isprintable() else "not a safetensors file"


def write_tensors(
    file: BinaryIO,
    specs: Mapping[str, TensorSpec],
    arrays: Iterable[tuple[str, np.ndarray]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file tensor by tensor, with only one of them in memory.

    Args:
      file: seekable, opened for writing.
      specs: every tensor's dtype and shape.
      arrays: each tensor of `specs` once, in any order.

    Raises:
      ValueError: a tensor is missing, given twice, or differs from `specs`.
    """
    sizes = {name: int(np.prod(spec.shape)) * _DTYPES[spec.dtype].itemsize for name, spec in specs.items()}
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    offsets = {}

    def aligned(name: str) -> tuple[bool, int, int, str]:
        # Multiples of the alignment first; then wide dtypes before narrow ones, which would misalign them.
        return sizes[name] % _ALIGNMENT != 0, -_DTYPES[specs[name].dtype].itemsize, -sizes[name], name

    for name in sorted(sizes, key=aligned):
        offsets[name] = end
        end += sizes[name]
        header[name] = {
            "dtype": specs[name].dtype,
            "shape": list(specs[name].shape),
            "data_offsets": [offsets[name], end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    start = file.tell()
    missing = set(specs)
    for name, array in arrays:
        if name not in missing or TensorSpec.of(array) != specs[name]:
            raise ValueError(f"tensor {name} {TensorSpec.of(array)} is not in the specs, or was written already")
        missing.remove(name)
        file.seek(start + offsets[name])
        file.write(np.ascontiguousarray(array).data)
    if missing:
        raise ValueError(f"tensors never written: {sorted(missing)}")
