"""The key file, and signatures that cover an entry's name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spectra_jax.inference.compilation_cache import CompilationCache, signing
from tests.inference.compilation_cache.small_program import (
    doubled_from_cache,
)


@pytest.mark.usefixtures("without_jax_cache")
def test_an_entry_under_another_name_is_not_loaded(tmp_path: Path) -> None:
    """Otherwise one executable could be put in the position of another."""
    reports: list[str] = []
    cache = CompilationCache(tmp_path, reports.append)
    doubled_from_cache(cache, "a")
    (entry,) = tmp_path.glob("*.compiled")
    entry.rename(tmp_path / f"spectra-{cache.key('b')}.compiled")
    assert not doubled_from_cache(cache, "b")
    (line,) = reports
    assert "its signature is wrong" in line


@pytest.mark.usefixtures("without_jax_cache")
@pytest.mark.parametrize("change", ["lost", "another", "short", "readable", "link"])
def test_with_another_key_the_network_is_compiled_again(tmp_path: Path, change: str) -> None:
    reports: list[str] = []
    folder = tmp_path / "networks"
    assert not doubled_from_cache(CompilationCache(folder, reports.append), "a")
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
    assert [doubled_from_cache(CompilationCache(folder, reports.append), "a") for _ in range(2)] == [False, True]
    assert len(reports) == 1
    assert key.read_bytes() != old and key.stat().st_mode & 0o777 == 0o600 and not key.is_symlink()


def test_processes_that_start_at_once_share_a_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: signing.signing_key(tmp_path), range(64)))
    assert len(keys) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["spectra-key"]


def test_a_file_system_without_hard_links_has_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert signing.signing_key(tmp_path) == signing.signing_key(tmp_path)
