"""The contexts of the compilation cache: where it is, whose settings count, and what a failure costs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spectra_jax.inference import compilation_cache
from spectra_jax.inference.compilation_cache import key
from spectra_jax.inference.compilation_cache.jax_cache import MAX_TOTAL_BYTES
from tests.conftest import GOLDEN
from tests.inference.compilation_cache.small_program import (
    jax_setting,
    jax_settings,
)

ROOT = GOLDEN.parents[1]
CLIP = ROOT / "examples" / "corpus" / "eval" / "june_01.flac"


def test_the_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for caches in ("", "relative/caches"):
        monkeypatch.setenv("XDG_CACHE_HOME", caches)
        assert compilation_cache.default_directory() == tmp_path / ".cache" / "spectra-jax" / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert compilation_cache.default_directory() == tmp_path / "caches" / "spectra-jax" / "compiled"


def test_settings_change_only_inside(cache_home: Path) -> None:
    before = jax_settings()
    reports: list[str] = []
    with compilation_cache.use_jax_cache(reports.append):
        folder = cache_home / "spectra-jax" / "compiled"
        assert jax_settings()["jax_compilation_cache_dir"] == str(folder)
        assert jax_settings()["jax_compilation_cache_max_size"] == MAX_TOTAL_BYTES
        assert folder.stat().st_mode & 0o077 == 0, "others could put their executables here"
    assert jax_settings() == before
    with compilation_cache.disabled():
        assert jax_settings() == before | {"jax_enable_compilation_cache": False}
    assert jax_settings() == before
    assert reports == []


def test_the_user_s_own_settings_are_respected(cache_home: Path) -> None:
    reports: list[str] = []
    for name, value in (("jax_compilation_cache_dir", "/users"), ("jax_enable_compilation_cache", False)):
        with jax_setting(name, value):
            own = jax_settings()
            with compilation_cache.use_jax_cache(reports.append):
                with compilation_cache.use(reports.append, "cpu") as cache:
                    assert cache is None
                assert jax_settings() == own
    assert reports == []
    assert list(cache_home.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_one_line(cache_home: Path) -> None:
    (cache_home / "spectra-jax").write_text("a file")
    before = jax_settings()
    reports: list[str] = []
    with compilation_cache.use_jax_cache(reports.append):
        assert jax_settings() == before
    with compilation_cache.use(reports.append, "cpu") as cache:
        assert cache is None
    assert len(reports) == 2
    for line in reports:
        assert line.startswith("No compilation cache: ")
        assert str(cache_home / "spectra-jax") in line


def test_a_relative_home_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "here")
    reports: list[str] = []
    with jax_setting("jax_compilation_cache_dir", None), compilation_cache.use(reports.append, "cpu") as cache:
        assert cache is None
    assert reports == ["No compilation cache: the home directory, 'here', is not an absolute path"]


def test_code_without_a_digest_has_no_cache(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key, "CODE_DIGEST", None)
    with compilation_cache.use(pytest.fail, "cpu") as cache:
        assert cache is None


def test_other_devices_are_left_to_jax(cache_home: Path) -> None:
    for platform, ours in (("cpu", True), ("cuda", False)):
        with compilation_cache.use(pytest.fail, platform) as cache:
            assert (cache is not None) == ours
            assert (jax_settings()["jax_compilation_cache_dir"] is None) == ours


@pytest.mark.long
@pytest.mark.slow
def test_damaged_entries_change_no_score(tmp_path: Path) -> None:
    """Run after run: the first fills the cache, the second loads from it, the third replaces a damaged entry."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    # Quick to compile, and stored like any other.
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "caches"), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    folder = tmp_path / "caches" / "spectra-jax" / "compiled"

    def run(*more: str) -> tuple[str, str, str]:
        output = tmp_path / "scores.txt"
        output.unlink(missing_ok=True)
        program = [sys.executable, "-m", "tests.programs.count_traces"]
        words = ["score", "--model", "demo", "--precision", "float64", "--output", str(output), *more, str(CLIP)]
        done = subprocess.run([*program, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return output.read_text(), done.stdout.strip(), done.stderr

    def entries() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.iterdir() if path.name.endswith(".compiled")}

    summary = f"1 of 1 trials scored -> {tmp_path / 'scores.txt'}\n"
    scores, traces, messages = run("--no-compile-cache")
    assert (traces, messages) == ("1", summary)
    assert not folder.exists()
    assert run() == (scores, "1", summary)
    intact = entries()
    assert len(intact) == 1
    scores_again, traces, messages = run()
    assert (scores_again, messages) == (scores, summary)
    assert traces == "0"
    damages: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda data: data[: len(data) // 2],
        "flipped": lambda data: data[:1000] + bytes([data[1000] ^ 0xFF]) + data[1001:],
        "empty": lambda data: b"",
    }
    for name, damage in damages.items():
        for path, data in intact.items():
            path.write_bytes(damage(data))
        scores_again, traces, messages = run()
        assert scores_again == scores, name
        assert messages.count("\n") == 2, messages
        assert messages.startswith(
            f"Compilation cache {folder}: the cached executable could not be loaded, so the network is compiled again ("
        ), messages
        assert traces == "1"
        # Replaced: the next run loads it and reports nothing.
        assert entries().keys() == intact.keys()
        assert run()[2] == summary
