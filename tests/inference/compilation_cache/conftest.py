"""Compilation caches for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from spectra_jax.inference.compilation_cache import CompilationCache
from tests.inference.compilation_cache.small_program import jax_cache_switched


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The empty `$XDG_CACHE_HOME` of a user who has set nothing of JAX's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def without_jax_cache() -> Iterator[None]:
    """Nothing comes from JAX's cache, which other tests fill."""
    with jax_cache_switched(on=False):
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, without_jax_cache: None) -> CompilationCache:
    """One that must not report anything."""
    return CompilationCache(tmp_path / "networks", pytest.fail)
