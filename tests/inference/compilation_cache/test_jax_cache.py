"""JAX's own cache: entries that would stop it, and its warnings."""

from __future__ import annotations

import warnings
from pathlib import Path

from spectra_jax.inference import compilation_cache


def test_an_entry_without_its_time_file_is_removed(cache_home: Path) -> None:
    folder = cache_home / "spectra-jax" / "compiled"
    folder.mkdir(parents=True)
    for name in ("jit_a-1-cache", "jit_b-2-cache", "jit_b-2-atime"):
        (folder / name).touch()
    with compilation_cache.use_jax_cache(lambda line: None):
        pass
    assert {path.name for path in folder.iterdir()} == {"jit_b-2-cache", "jit_b-2-atime"}


def test_failures_are_reported_once_and_other_warnings_are_unchanged(cache_home: Path) -> None:
    folder = cache_home / "spectra-jax" / "compiled"
    reports: list[str] = []
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        with compilation_cache.use_jax_cache(reports.append):
            for name in ("jit_a-1", "jit_b-2"):
                for suffix in ("cache", "atime"):
                    (folder / f"{name}-{suffix}").touch()
            for activity in ("reading", "writing"):
                warnings.warn(
                    f"Error {activity} persistent compilation cache entry for 'jit_a': E: why\nmore", stacklevel=1
                )
            warnings.warn("something else", stacklevel=1)
            assert {path.name for path in folder.glob("*-cache")} == {"jit_b-2-cache"}
    assert reports == [f"Compilation cache {folder}: reading an entry failed, so the network was compiled (E: why)"]
    assert [str(warning.message) for warning in others] == ["something else"]
