"""The compile cache of the command line: kept where it should be, bounded, and never in the way of a score."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from spectra_jax import Scorer, compile_cache, load
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.precision import Precision

CLIP = Path(__file__).parent.parent / "examples" / "corpus" / "eval" / "june_01.flac"
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
    tiny = Path(__file__).parent / "golden" / "tiny"
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
    # Sound by its checksum, and no network all the same.
    said: list[str] = []
    networks._say = said.append
    entry.write_bytes(zlib.compress(b"another program"))
    np.testing.assert_array_equal(loaded().logits(windows), expected)
    (line,) = said
    assert line.startswith(
        f"compile cache {tmp_path / 'networks'}: trouble reading it, so the network is compiled anew"
    )
    assert len(entry.read_bytes()) > 1000
    # A loaded network may be of a class of the caller's own.
    loaded(compiled.model)
    assert list((tmp_path / "networks").iterdir()) == [entry]


@pytest.mark.usefixtures("compiled_here")
@pytest.mark.parametrize(
    "damage", [lambda data: data[:40], lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], lambda _: b""]
)
def test_a_damaged_network_is_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    said: list[str] = []
    networks = compile_cache.CompiledNetworks(tmp_path, said.append)
    assert not doubled(networks, "a")
    (entry,) = tmp_path.iterdir()
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
