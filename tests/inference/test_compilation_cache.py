"""The compile cache of the command line: kept where it should be, bounded, and never in the way of a score."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from spectra_jax import Scorer, load
from spectra_jax.inference import compilation_cache as compile_cache
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import SpectraAASIST3

CLIP = Path(__file__).parents[2] / "examples" / "corpus" / "eval" / "june_01.flac"
SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


def settings() -> dict[str, object]:
    return {name: getattr(jax.config, name) for name in SETTINGS}


@contextmanager
def jax_setting(name: str, value: object) -> Iterator[None]:
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder of a person who has set nothing of JAX's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("", "relative/caches"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert compile_cache.place() == tmp_path / ".cache" / "spectra-jax" / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert compile_cache.place() == tmp_path / "caches" / "spectra-jax" / "compiled"


def test_settings_are_its_own_and_only_inside(caches: Path) -> None:
    before, said = settings(), []
    with compile_cache.jax_kept(said.append):
        folder = caches / "spectra-jax" / "compiled"
        assert settings()["jax_compilation_cache_dir"] == str(folder)
        assert settings()["jax_compilation_cache_max_size"] == compile_cache.MOST_BYTES
        assert folder.stat().st_mode & 0o077 == 0, "others could put their programs here"
    assert settings() == before
    with compile_cache.off():
        assert settings() == before | {"jax_enable_compilation_cache": False}
    assert settings() == before
    assert said == []


def test_the_person_s_own_settings_are_respected(caches: Path) -> None:
    said: list[str] = []
    for name, value in (("jax_compilation_cache_dir", "/theirs"), ("jax_enable_compilation_cache", False)):
        with jax_setting(name, value):
            own = settings()
            with compile_cache.jax_kept(said.append):
                with compile_cache.kept(said.append, "cpu") as networks:
                    assert networks is None
                assert settings() == own
    assert said == []
    assert list(caches.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(caches: Path) -> None:
    (caches / "spectra-jax").write_text("a file")
    before = settings()
    said: list[str] = []
    with compile_cache.jax_kept(said.append):
        assert settings() == before
    with compile_cache.kept(said.append, "cpu") as networks:
        assert networks is None
    assert len(said) == 2
    for line in said:
        assert line.startswith("no compile cache: ")
        assert str(caches / "spectra-jax") in line


def test_a_place_where_others_may_write_is_not_used(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = caches / "spectra-jax" / "compiled"
    folder.mkdir(parents=True)
    folder.chmod(0o770)
    said: list[str] = []
    with compile_cache.kept(said.append, "cpu") as networks:
        assert networks is None
    assert said == [f"no compile cache: {folder}: others may write there, and it holds programs; `chmod go-w` it"]
    folder.chmod(0o700)
    said.clear()
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with compile_cache.kept(said.append, "cpu") as networks:
        assert networks is None
    assert said == [f"no compile cache: {folder}: it is another user's, and holds programs"]


@pytest.mark.parametrize("through_a_link", [False, True])
def test_directories_above_that_others_may_write_are_refused(
    caches: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, through_a_link: bool
) -> None:
    """Whoever can write a directory above the cache can replace it by another, with other programs in it."""
    parent = tmp_path_factory.mktemp("above") / "parent"
    parent.mkdir()
    home = parent / "caches"
    home.mkdir(mode=0o700)
    given = caches / "link" if through_a_link else home
    if through_a_link:
        given.symlink_to(home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(given))

    def lines() -> list[str]:
        said: list[str] = []
        with compile_cache.kept(said.append, "cpu") as networks:
            assert (networks is None) == bool(said)
        with compile_cache.jax_kept(said.append):
            assert (jax.config.jax_compilation_cache_dir is None) == bool(said)  # type: ignore[attr-defined]
        return said

    assert lines() == []
    for mode in (0o777, 0o770):
        parent.chmod(mode)
        assert lines() == 2 * [
            f"no compile cache: {parent}: others may write there, and could replace the programs in "
            f"{given / 'spectra-jax' / 'compiled'}; `chmod go-w` it, or set XDG_CACHE_HOME to a directory that only "
            "you can write"
        ]
    # In a sticky directory, such as /tmp, nobody can replace what is another's.
    parent.chmod(0o1777)
    assert lines() == []


@pytest.mark.parametrize("which", ["directory", "link"])
def test_directories_and_links_of_another_user_are_refused(
    caches: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    theirs = caches / "theirs"
    if which == "link":
        (caches / "real").mkdir()
        theirs.symlink_to(caches / "real")
    else:
        theirs.mkdir()
    lstat = Path.lstat

    def owned(path: Path) -> os.stat_result:
        status = lstat(path)
        return os.stat_result([*status[:4], os.geteuid() + 1, *status[5:]]) if path == theirs else status

    monkeypatch.setattr(Path, "lstat", owned)
    monkeypatch.setenv("XDG_CACHE_HOME", str(theirs))
    said: list[str] = []
    with compile_cache.kept(said.append, "cpu") as networks:
        assert networks is None
    (line,) = said
    assert line.startswith(f"no compile cache: {theirs}: it is another user's, who could replace the programs in ")


def test_a_group_of_the_user_alone_may_write_above(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where each user has such a group, and new directories are writable by it (Ubuntu: umask 002)."""
    import grp
    import pwd

    caches.chmod(0o775)
    gid, members = caches.stat().st_gid, ["alice"]
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_uid=1000, pw_gid=gid, pw_name="alice"))
    monkeypatch.setattr(grp, "getgrgid", lambda _: SimpleNamespace(gr_name="alice", gr_mem=members))
    for others in ([], ["bob"]):
        members += others
        said: list[str] = []
        with compile_cache.kept(said.append, "cpu") as networks:
            assert (networks is None) == bool(others) == bool(said)


def test_links_in_a_circle_are_a_line(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (caches / "a").symlink_to(caches / "b")
    (caches / "b").symlink_to(caches / "a")
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches / "a"))
    said: list[str] = []
    with compile_cache.kept(said.append, "cpu") as networks:
        assert networks is None
    (line,) = said
    assert line.startswith("no compile cache: ")
    with pytest.raises(OSError, match="symbolic links"):
        compile_cache._require_private(caches / "a")


def test_a_home_that_is_no_absolute_path_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "here")
    said: list[str] = []
    with jax_setting("jax_compilation_cache_dir", None), compile_cache.kept(said.append, "cpu") as networks:
        assert networks is None
    assert said == ["no compile cache: the home directory, 'here', is not an absolute path"]


def test_new_directories_are_the_user_s_alone(caches: Path) -> None:
    before = os.umask(0)
    try:
        with compile_cache.kept(pytest.fail, "cpu") as networks:
            assert networks is not None
    finally:
        os.umask(before)
    for folder in (caches / "spectra-jax", caches / "spectra-jax" / "compiled"):
        assert folder.stat().st_mode & 0o777 == 0o700


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.file),)


def put_fifo(entry: Path) -> None:
    os.mkfifo(entry)


def put_zeros(entry: Path) -> None:
    entry.symlink_to("/dev/zero")


def put_large(entry: Path) -> None:
    with entry.open("wb") as file:
        file.truncate(compile_cache._LARGEST_ENTRY + 1)


def put_open_to_others(entry: Path) -> None:
    entry.write_bytes(b"written by anyone")
    entry.chmod(0o666)


def put_pickle(entry: Path) -> None:
    entry.write_bytes(bytes(32) + zlib.compress(pickle.dumps(Trap(entry.parent / "sprung"))))


@pytest.mark.usefixtures("compiled_here")
@pytest.mark.parametrize("put", [put_fifo, put_zeros, put_large, put_open_to_others, put_pickle])
def test_a_forged_entry_is_a_line_and_replaced(tmp_path: Path, put: Callable[[Path], None]) -> None:
    said: list[str] = []
    networks = compile_cache.CompiledNetworks(tmp_path, said.append)
    assert not doubled(networks, "a")
    (entry,) = tmp_path.glob("*.compiled")
    entry.unlink()
    put(entry)
    assert [doubled(networks, "a") for _ in range(2)] == [False, True]
    (line,) = said
    assert line.startswith(f"compile cache {tmp_path}: trouble reading it, so the network is compiled anew (")
    assert not (tmp_path / "sprung").exists()
    assert stat.S_ISREG(entry.lstat().st_mode) and entry.stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("compiled_here")
def test_an_entry_under_another_name_is_not_loaded(tmp_path: Path) -> None:
    """Or a program could be made to run instead of another."""
    said: list[str] = []
    networks = compile_cache.CompiledNetworks(tmp_path, said.append)
    doubled(networks, "a")
    (entry,) = tmp_path.glob("*.compiled")
    entry.rename(tmp_path / f"spectra-{networks.key('b')}.compiled")
    assert not doubled(networks, "b")
    (line,) = said
    assert "its signature is wrong" in line


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "_LARGEST_PROGRAM", 1000)
    networks = compile_cache.CompiledNetworks(tmp_path, pytest.fail)
    for size in (1000, 1001):
        packed = zlib.compress(bytes(size))
        entry = networks._signature("name", packed) + packed
        if size == 1000:
            assert networks._program("name", entry) == bytes(size)
        else:
            with pytest.raises(ValueError, match="unpacks to more than 1,000 bytes"):
                networks._program("name", entry)


@pytest.mark.usefixtures("compiled_here")
@pytest.mark.parametrize("change", ["lost", "another", "short", "readable", "link"])
def test_another_key_compiles_anew(tmp_path: Path, change: str) -> None:
    said: list[str] = []
    folder = tmp_path / "networks"
    assert not doubled(compile_cache.CompiledNetworks(folder, said.append), "a")
    key = folder / "spectra-key"
    old = key.read_bytes()
    assert len(old) == 32 and key.stat().st_mode & 0o777 == 0o600
    if change == "readable":
        key.chmod(0o644)
    elif change == "link":
        key.rename(tmp_path / "elsewhere")
        key.symlink_to(tmp_path / "elsewhere")
    elif change == "lost":
        key.unlink()
    else:
        key.write_bytes(bytes(32 if change == "another" else 3))
    assert [doubled(compile_cache.CompiledNetworks(folder, said.append), "a") for _ in range(2)] == [False, True]
    assert len(said) == 1
    assert key.read_bytes() != old and key.stat().st_mode & 0o777 == 0o600 and not key.is_symlink()


def test_processes_that_start_at_once_share_a_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: compile_cache._signing_key(tmp_path), range(64)))
    assert len(keys) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["spectra-key"]


def test_a_file_system_without_hard_links_has_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert compile_cache._signing_key(tmp_path) == compile_cache._signing_key(tmp_path)


def test_an_entry_without_its_time_of_use_is_removed(caches: Path) -> None:
    folder = caches / "spectra-jax" / "compiled"
    folder.mkdir(parents=True)
    for name in ("jit_a-1-cache", "jit_b-2-cache", "jit_b-2-atime"):
        (folder / name).touch()
    with compile_cache.jax_kept(lambda line: None):
        pass
    assert {path.name for path in folder.iterdir()} == {"jit_b-2-cache", "jit_b-2-atime"}


def test_trouble_is_told_once_and_other_warnings_as_ever(caches: Path) -> None:
    folder = caches / "spectra-jax" / "compiled"
    said: list[str] = []
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        with compile_cache.jax_kept(said.append):
            for name in ("jit_a-1", "jit_b-2"):
                for end in ("cache", "atime"):
                    (folder / f"{name}-{end}").touch()
            for did in ("reading", "writing"):
                warnings.warn(f"Error {did} persistent compilation cache entry for 'jit_a': E: why\nmore", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
            assert {path.name for path in folder.glob("*-cache")} == {"jit_b-2-cache"}
    assert said == [f"compile cache {folder}: trouble reading it, so the network was compiled (E: why)"]
    assert [str(warning.message) for warning in others] == ["something else"]


@contextmanager
def jax_cache(on: bool) -> Iterator[None]:
    """JAX's own cache truly on or off, which the setting alone does not do once it was used."""
    with jax_setting("jax_enable_compilation_cache", on):
        compilation_cache.reset_cache()
        yield
    compilation_cache.reset_cache()


@pytest.fixture
def compiled_here() -> Iterator[None]:
    """Nothing comes from JAX's cache, which other tests fill."""
    with jax_cache(on=False):
        yield


@pytest.fixture
def networks(tmp_path: Path, compiled_here: None) -> compile_cache.CompiledNetworks:
    """A place for networks that has no trouble."""
    return compile_cache.CompiledNetworks(tmp_path / "networks", pytest.fail)


def doubled(networks: compile_cache.CompiledNetworks, facts: str) -> bool:
    """Doubles numbers by a program for these facts, compiled if it was not kept; whether it was kept."""
    x = jax.ShapeDtypeStruct((3,), np.float32)
    key = networks.key(facts)
    load = networks.find(key, jax.local_devices()[:1], ([x],))
    lowered = jax.jit(lambda given: given[0] * 2).lower([x])
    program = networks.compiled(key, lowered, {}) if load is None else load()
    np.testing.assert_array_equal(program([np.arange(3, dtype=np.float32)]), [0, 2, 4])
    return load is not None


def test_what_was_compiled_is_taken_for_the_same_facts_and_settings_only(
    networks: compile_cache.CompiledNetworks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [doubled(networks, facts) for facts in "aaba"] == [False, True, False, True]
    with jax_setting("jax_default_matmul_precision", "highest"):
        assert [doubled(networks, "a") for _ in range(2)] == [False, True]
    with jax_setting("jax_compilation_cache_max_size", 1234):
        assert doubled(networks, "a")
    with monkeypatch.context() as patched:
        patched.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " --xla_cpu_enable_fast_math=false")
        assert not doubled(networks, "a")
        file = tmp_path / "flags"
        patched.setenv("XLA_FLAGS", str(file))
        for flags in ("--xla_cpu_enable_fast_math=false", "--xla_cpu_enable_fast_math=true"):
            file.write_text(flags)
            assert not doubled(networks, "a")
    others = {"_CODE": "of another version", "_VERSIONS": ["flax 99"], "_host": lambda: ["another CPU"]}
    for name, other in others.items():
        with monkeypatch.context() as patched:
            patched.setattr(compile_cache, name, other)
            assert [doubled(networks, "a") for _ in range(2)] == [False, True], name
    assert doubled(networks, "a")


def test_what_jax_had_in_its_own_cache_is_not_kept(networks: compile_cache.CompiledNetworks, tmp_path: Path) -> None:
    """XLA writes such a program without a word and without its code, and it would fail whenever it ran."""
    x = jax.ShapeDtypeStruct((64, 64), np.float32)

    def lowered() -> jax.stages.Lowered:
        jax.clear_caches()
        return jax.jit(lambda given: jax.numpy.sort(jax.numpy.tanh(given[0]) @ given[0])).lower([x])

    found = []
    theirs = jax_setting("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    with theirs, jax_setting("jax_persistent_cache_min_compile_time_secs", 0.0), jax_cache(on=True):
        for name in ("first", "again"):
            networks.compiled(name, lowered(), {})
            found.append(networks.find(name, jax.local_devices()[:1], ([x],)) is not None)
    assert found == [True, False]


def test_code_that_cannot_be_told_from_other_code_has_no_place(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "_CODE", None)
    with compile_cache.kept(pytest.fail, "cpu") as networks:
        assert networks is None


def test_code_is_told_apart(tmp_path: Path) -> None:
    assert compile_cache._digest(tmp_path) is None
    assert compile_cache._digest(tmp_path / "package.zip") is None
    (tmp_path / "model").mkdir()
    digests = set()
    for name, code in (("a", "x = 1"), ("a", "x = 2"), ("b", "x = 2"), ("model/b", "x = 2")):
        file = tmp_path / f"{name}.py"
        file.write_text(code)
        digests.add(compile_cache._digest(tmp_path))
        assert compile_cache._digest(tmp_path) in digests
        file.unlink()
    assert len(digests) == 4 and None not in digests
    (tmp_path / ".#lock.py").symlink_to("nobody@nowhere")
    assert compile_cache._digest(tmp_path) is None


def test_a_folder_that_may_only_be_read_is_read(
    networks: compile_cache.CompiledNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubled(networks, "a")

    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "utime", refuse)
    assert doubled(networks, "a")


class Told(BaseException):
    """Stops a scorer from loading further."""


class Asked(compile_cache.CompiledNetworks):
    """Notes what a network is asked for by."""

    def key(self, facts: str) -> str:
        self.facts = facts
        raise Told


def test_networks_that_differ_are_told_apart(tmp_path: Path) -> None:
    """By all that a scorer's network is made from; twice the same is the same."""
    tiny = Path(__file__).parents[1] / "golden" / "tiny"
    asked = Asked(tmp_path, pytest.fail)

    def facts(model: str | Path = "demo", **how: Any) -> str:
        with pytest.raises(Told):
            Scorer(model, **{"batch_size": 1, **how}).load(kept=asked)
        return asked.facts

    ways = [
        {},
        {"model": tiny},
        {"precision": "float64"},
        {"precision": replace(Precision.of("float32"), lax=jax.lax.Precision.DEFAULT)},
        {"diagnostics": True},
        {"batch_size": 2},
    ]
    assert len({facts(**way) for way in ways}) == len(ways)
    assert facts() == facts()


def test_what_was_compiled_gives_the_same_scores_to_the_bit(
    networks: compile_cache.CompiledNetworks, tmp_path: Path
) -> None:
    samples = load("demo").config.num_samples
    windows = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)

    def loaded(model: str | SpectraAASIST3 = "demo") -> Scorer:
        scorer = Scorer(model, batch_size=2)
        scorer.load(kept=networks)
        return scorer

    compiled = loaded()
    (entry,) = (tmp_path / "networks").glob("*.compiled")
    expected = compiled.logits(windows)
    traced = SpectraAASIST3.__call__
    SpectraAASIST3.__call__ = pytest.fail  # type: ignore[method-assign, assignment]
    try:
        np.testing.assert_array_equal(loaded().logits(windows), expected)
    finally:
        SpectraAASIST3.__call__ = traced  # type: ignore[method-assign]
    # Rightly signed, and no network all the same.
    said: list[str] = []
    networks._say = said.append
    packed = zlib.compress(b"another program")
    entry.write_bytes(networks._signature(entry.name, packed) + packed)
    np.testing.assert_array_equal(loaded().logits(windows), expected)
    (line,) = said
    assert line.startswith(
        f"compile cache {tmp_path / 'networks'}: trouble reading it, so the network is compiled anew"
    )
    assert len(entry.read_bytes()) > 1000
    # A loaded network may be of a class of the caller's own.
    loaded(compiled.model)
    assert {file.name for file in (tmp_path / "networks").iterdir()} == {entry.name, "spectra-key"}


@pytest.mark.usefixtures("compiled_here")
@pytest.mark.parametrize(
    "damage", [lambda data: data[:40], lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], lambda _: b""]
)
def test_a_damaged_network_is_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    said: list[str] = []
    networks = compile_cache.CompiledNetworks(tmp_path, said.append)
    assert not doubled(networks, "a")
    (entry,) = tmp_path.glob("*.compiled")
    entry.write_bytes(damage(entry.read_bytes()))
    assert [doubled(networks, "a") for _ in range(2)] == [False, True]
    (line,) = said
    assert line.startswith(f"compile cache {tmp_path}: trouble reading it, so the network is compiled anew (")


@pytest.mark.usefixtures("compiled_here")
def test_a_network_that_cannot_be_kept_is_a_line(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").touch()
    assert not doubled(compile_cache.CompiledNetworks(tmp_path / "file", said.append), "a")
    (line,) = said
    assert line.startswith(f"compile cache {tmp_path / 'file'}: the compiled network is not kept (")


def test_networks_least_recently_used_go_first(
    networks: compile_cache.CompiledNetworks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_cache, "_MOST_NETWORKS", 2)
    folder = tmp_path / "networks"
    folder.mkdir()
    (folder / ".spectra-left-by-a-kill.partial").touch()
    (folder / "jit_step-1-cache").touch()
    os.utime(folder / ".spectra-left-by-a-kill.partial", (0, 0))
    for facts, kept in zip("abac", (False, False, True, False), strict=True):
        assert doubled(networks, facts) == kept
        for file in folder.glob("spectra-*"):
            # Time passes.
            used = file.stat().st_mtime - 10
            os.utime(file, (used, used))
    assert len(list(folder.glob("*.compiled"))) == 2
    assert (folder / "jit_step-1-cache").exists()
    assert not (folder / ".spectra-left-by-a-kill.partial").exists()
    assert doubled(networks, "a")
    assert not doubled(networks, "b")


def test_other_devices_are_left_to_jax(caches: Path) -> None:
    for platform, kept in (("cpu", True), ("cuda", False)):
        with compile_cache.kept(pytest.fail, platform) as networks:
            assert (networks is not None) == kept
            assert (settings()["jax_compilation_cache_dir"] is None) == kept


@pytest.mark.long
@pytest.mark.slow
def test_damaged_entries_change_no_score(tmp_path: Path) -> None:
    """As a person sees it, run after run: the first fills the cache, the second takes from it, the third mends it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    # Quick to compile; what is kept is kept all the same.
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "caches"), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    program = """
events = []
from spectra_jax.cli import main
from spectra_jax.model.spectra import SpectraAASIST3
call = SpectraAASIST3.__call__
def traced(*given, **how):
    events.append("traced")
    return call(*given, **how)
SpectraAASIST3.__call__ = traced
try:
    main()
finally:
    print(events.count("traced"))
"""
    folder = tmp_path / "caches" / "spectra-jax" / "compiled"

    def run(*more: str) -> tuple[str, str, str]:
        output = tmp_path / "scores.txt"
        words = ["score", "--model", "demo", "--precision", "float64", "--output", str(output), *more, str(CLIP)]
        ran = subprocess.run([sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return output.read_text(), ran.stdout.strip(), ran.stderr

    def entries() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.iterdir() if path.name.endswith(".compiled")}

    quiet = f"1 of 1 trials scored -> {tmp_path / 'scores.txt'}\n"
    scores, counted, said = run("--no-compile-cache")
    assert (counted, said) == ("1", quiet)
    assert not folder.exists()
    assert run() == (scores, "1", quiet)
    kept = entries()
    assert len(kept) == 1
    scores_again, counted, said = run()
    assert (scores_again, said) == (scores, quiet)
    assert counted == "0"
    damages = {
        "cut": lambda data: data[: len(data) // 2],
        "flipped": lambda data: data[:1000] + bytes([data[1000] ^ 0xFF]) + data[1001:],
        "empty": lambda data: b"",
    }
    for name, damage in damages.items():
        for path, data in kept.items():
            path.write_bytes(damage(data))
        scores_again, counted, said = run()
        assert scores_again == scores, name
        assert said.count("\n") == 2, said
        assert said.startswith(f"compile cache {folder}: trouble reading it, so the network is compiled anew ("), said
        assert counted == "1"
        # Mended: the next run takes from it and says nothing.
        assert entries().keys() == kept.keys()
        assert run()[2] == quiet
