"""The compile cache of the command line: kept where it should be, bounded, and never in the way of a score."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from spectra_jax import compile_cache

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
    with compile_cache.kept(said.append):
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
        before = settings()
        jax.config.update(name, value)
        try:
            own = settings()
            with compile_cache.kept(said.append):
                assert settings() == own
        finally:
            jax.config.update(name, before[name])
    assert said == []
    assert list(caches.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(caches: Path) -> None:
    (caches / "spectra-jax").write_text("a file")
    before, said = settings(), []
    with compile_cache.kept(said.append):
        assert settings() == before
    (line,) = said
    assert line.startswith("no compile cache: ")
    assert str(caches / "spectra-jax") in line


def test_an_entry_without_its_time_of_use_is_removed(caches: Path) -> None:
    folder = caches / "spectra-jax" / "compiled"
    folder.mkdir(parents=True)
    for name in ("jit_a-1-cache", "jit_b-2-cache", "jit_b-2-atime"):
        (folder / name).touch()
    with compile_cache.kept(lambda line: None):
        pass
    assert {path.name for path in folder.iterdir()} == {"jit_b-2-cache", "jit_b-2-atime"}


def test_trouble_is_told_once_and_other_warnings_as_ever(caches: Path) -> None:
    folder = caches / "spectra-jax" / "compiled"
    said: list[str] = []
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        with compile_cache.kept(said.append):
            for name in ("jit_a-1", "jit_b-2"):
                for end in ("cache", "atime"):
                    (folder / f"{name}-{end}").touch()
            for did in ("reading", "writing"):
                warnings.warn(f"Error {did} persistent compilation cache entry for 'jit_a': E: why\nmore", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
            assert {path.name for path in folder.glob("*-cache")} == {"jit_b-2-cache"}
    assert said == [f"compile cache {folder}: trouble reading it, so the network was compiled (E: why)"]
    assert [str(warning.message) for warning in others] == ["something else"]


@pytest.mark.long
@pytest.mark.slow
def test_damaged_entries_change_no_score(tmp_path: Path) -> None:
    """As a person sees it, run after run: the first fills the cache, the second takes from it, the third mends it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    # Quick to compile; what is kept is kept all the same.
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "caches"), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    program = """
import sys
from jax import monitoring
events = []
monitoring.register_event_listener(lambda event, **_: events.append(event))
from spectra_jax.cli import main
try:
    main()
finally:
    print(sum(event.endswith("/cache_hits") for event in events))
"""
    folder = tmp_path / "caches" / "spectra-jax" / "compiled"

    def run(*more: str) -> tuple[str, str, str]:
        output = tmp_path / "scores.txt"
        words = ["score", "--model", "demo", "--precision", "float64", "--output", str(output), *more, str(CLIP)]
        ran = subprocess.run([sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return output.read_text(), ran.stdout.strip(), ran.stderr

    def entries() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.glob("*-cache")}

    quiet = f"1 of 1 trials scored -> {tmp_path / 'scores.txt'}\n"
    scores, hits, said = run("--no-compile-cache")
    assert (hits, said) == ("0", quiet)
    assert not folder.exists()
    assert run() == (scores, "0", quiet)
    kept = entries()
    assert any(path.name.startswith("jit_spectra-") for path in kept)
    scores_again, hits, said = run()
    assert (scores_again, said) == (scores, quiet)
    assert int(hits) >= 1
    damages = {
        "cut": lambda data: data[: len(data) // 2],
        "flipped": lambda data: data[:1000] + bytes([data[1000] ^ 0xFF]) + data[1001:],
        "empty": lambda data: b"",
    }
    for name, damage in damages.items():
        for path, data in kept.items():
            path.write_bytes(damage(data))
        scores_again, hits, said = run()
        assert scores_again == scores, name
        assert said.count("\n") == 2, said
        assert said.startswith(f"compile cache {folder}: trouble reading it, so the network was compiled ("), said
        assert int(hits) == 0
        # Mended: the next run takes from it and says nothing.
        assert entries().keys() == kept.keys()
        assert run()[2] == quiet
