"""Entries: stored, found, refused and removed; no failure costs a score."""

from __future__ import annotations

import os
import pickle
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from spectra_jax import Scorer, load
from spectra_jax.inference.compilation_cache import CompilationCache, entries
from spectra_jax.inference.compilation_cache.signing import Signer
from spectra_jax.model.spectra import SpectraAASIST3
from tests.inference.compilation_cache.small_program import (
    doubled_from_cache,
    jax_cache_switched,
    jax_setting,
)

NOT_LOADED = "Compilation cache {}: the cached executable could not be loaded, so the network is compiled again ("


class Trap:
    """Creates a directory when it is unpickled."""

    def __init__(self, directory: Path):
        self.directory = directory

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.directory),)


def write_fifo(entry: Path) -> None:
    os.mkfifo(entry)


def write_link_to_zeros(entry: Path) -> None:
    entry.symlink_to("/dev/zero")


def write_too_large(entry: Path) -> None:
    with entry.open("wb") as file:
        file.truncate(entries.MAX_ENTRY_BYTES + 1)


def write_open_to_others(entry: Path) -> None:
    entry.write_bytes(b"written by anyone")
    entry.chmod(0o666)


def write_pickle(entry: Path) -> None:
    entry.write_bytes(bytes(32) + zlib.compress(pickle.dumps(Trap(entry.parent / "sprung"))))


@pytest.mark.usefixtures("without_jax_cache")
@pytest.mark.parametrize(
    "write", [write_fifo, write_link_to_zeros, write_too_large, write_open_to_others, write_pickle]
)
def test_a_forged_entry_is_reported_and_replaced(tmp_path: Path, write: Callable[[Path], None]) -> None:
    reports: list[str] = []
    cache = CompilationCache(tmp_path, reports.append)
    assert not doubled_from_cache(cache, "a")
    (entry,) = tmp_path.glob("*.compiled")
    entry.unlink()
    write(entry)
    assert [doubled_from_cache(cache, "a") for _ in range(2)] == [False, True]
    (line,) = reports
    assert line.startswith(NOT_LOADED.format(tmp_path))
    assert not (tmp_path / "sprung").exists()
    assert stat.S_ISREG(entry.lstat().st_mode) and entry.stat().st_mode & 0o077 == 0


def test_an_executable_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_EXECUTABLE_BYTES", 1000)
    assert entries.decompress(zlib.compress(bytes(1000))) == bytes(1000)
    with pytest.raises(ValueError, match="decompresses to more than 1,000 bytes"):
        entries.decompress(zlib.compress(bytes(1001)))


def test_what_jax_takes_from_its_own_cache_is_not_stored(empty_cache: CompilationCache, tmp_path: Path) -> None:
    """XLA serializes such an executable without an error and without its code, and it would fail whenever it ran."""
    x = jax.ShapeDtypeStruct((64, 64), np.float32)

    def lowered() -> jax.stages.Lowered:
        jax.clear_caches()
        return jax.jit(lambda given: jax.numpy.sort(jax.numpy.tanh(given[0]) @ given[0])).lower([x])

    found = []
    directory = jax_setting("jax_compilation_cache_dir", str(tmp_path / "jax"))
    with directory, jax_setting("jax_persistent_cache_min_compile_time_secs", 0.0), jax_cache_switched(on=True):
        for name in ("first", "again"):
            empty_cache.compile(name, lowered(), {})
            found.append(empty_cache.find(name, jax.local_devices()[:1]) is not None)
    assert found == [True, False]


def test_a_read_only_directory_is_read(empty_cache: CompilationCache, monkeypatch: pytest.MonkeyPatch) -> None:
    doubled_from_cache(empty_cache, "a")

    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "utime", refuse)
    assert doubled_from_cache(empty_cache, "a")


def test_a_cached_executable_gives_the_same_scores_to_the_bit(
    empty_cache: CompilationCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = load("demo").config.num_samples
    windows = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)

    def loaded(model: str | SpectraAASIST3 = "demo", cache: CompilationCache = empty_cache) -> Scorer:
        scorer = Scorer(model, batch_size=2)
        scorer.load(cache=cache)
        return scorer

    compiled, directory = loaded(), tmp_path / "networks"
    (entry,) = directory.glob("*.compiled")
    expected = compiled.logits(windows)
    with monkeypatch.context() as patched:
        patched.setattr(SpectraAASIST3, "__call__", pytest.fail)  # so that tracing fails
        np.testing.assert_array_equal(loaded().logits(windows), expected)
    # Correctly signed, but not an executable.
    entry.write_bytes(Signer(directory).sign(entry.name, zlib.compress(b"another program")))
    reports: list[str] = []
    again = loaded(cache=CompilationCache(directory, reports.append))
    np.testing.assert_array_equal(again.logits(windows), expected)
    (line,) = reports
    assert line.startswith(NOT_LOADED.format(directory))
    assert len(entry.read_bytes()) > 1000
    # A loaded network may be of a class of the caller's own, so it is neither found nor stored.
    loaded(compiled.model)
    assert {file.name for file in directory.iterdir()} == {entry.name, "spectra-key"}


@pytest.mark.usefixtures("without_jax_cache")
@pytest.mark.parametrize(
    "damage", [lambda data: data[:40], lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], lambda _: b""]
)
def test_a_damaged_entry_is_reported_and_replaced(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    reports: list[str] = []
    cache = CompilationCache(tmp_path, reports.append)
    assert not doubled_from_cache(cache, "a")
    (entry,) = tmp_path.glob("*.compiled")
    entry.write_bytes(damage(entry.read_bytes()))
    assert [doubled_from_cache(cache, "a") for _ in range(2)] == [False, True]
    (line,) = reports
    assert line.startswith(NOT_LOADED.format(tmp_path))


@pytest.mark.usefixtures("without_jax_cache")
def test_a_network_that_cannot_be_stored_is_reported(tmp_path: Path) -> None:
    reports: list[str] = []
    (tmp_path / "file").touch()
    assert not doubled_from_cache(CompilationCache(tmp_path / "file", reports.append), "a")
    (line,) = reports
    assert line.startswith(f"Compilation cache {tmp_path / 'file'}: the compiled network could not be stored (")


def test_the_least_recently_used_entries_are_removed_first(
    empty_cache: CompilationCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "MAX_ENTRIES", 2)
    folder = tmp_path / "networks"
    folder.mkdir()
    (folder / ".spectra-left-by-a-kill.partial").touch()
    (folder / "jit_step-1-cache").touch()
    os.utime(folder / ".spectra-left-by-a-kill.partial", (0, 0))
    for facts, stored in zip("abac", (False, False, True, False), strict=True):
        assert doubled_from_cache(empty_cache, facts) == stored
        for file in folder.glob("spectra-*"):
            # As if time had passed.
            used = file.stat().st_mtime - 10
            os.utime(file, (used, used))
    assert len(list(folder.glob("*.compiled"))) == 2
    assert (folder / "jit_step-1-cache").exists()
    assert not (folder / ".spectra-left-by-a-kill.partial").exists()
    assert doubled_from_cache(empty_cache, "a")
    assert not doubled_from_cache(empty_cache, "b")
