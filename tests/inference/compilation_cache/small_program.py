"""A small program for the compilation cache, and JAX's settings of its own cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache as jax_compilation_cache

from spectra_jax.inference.compilation_cache import CompilationCache

_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


def jax_settings() -> dict[str, object]:
    return {name: getattr(jax.config, name) for name in _SETTINGS}


@contextmanager
def jax_setting(name: str, value: object) -> Iterator[None]:
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextmanager
def jax_cache_switched(on: bool) -> Iterator[None]:
    """JAX's own cache on or off. After its first use the setting alone has no effect."""
    with jax_setting("jax_enable_compilation_cache", on):
        jax_compilation_cache.reset_cache()
        yield
    jax_compilation_cache.reset_cache()


def doubled_from_cache(cache: CompilationCache, facts: str) -> bool:
    """Double numbers by a program with these facts, compiled if the cache lacks it. Whether the cache had it."""
    x = jax.ShapeDtypeStruct((3,), np.float32)
    key = cache.key(facts)
    load = cache.find(key, jax.local_devices()[:1])
    lowered = jax.jit(lambda given: given[0] * 2).lower([x])
    program = cache.compile(key, lowered, {}) if load is None else load()
    np.testing.assert_array_equal(program([np.arange(3, dtype=np.float32)]), [0, 2, 4])
    return load is not None
