"""Where the compilation cache is, and the contexts in which it is used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spectra_jax.inference.compilation_cache import jax_cache, key
from spectra_jax.inference.compilation_cache.entries import CompilationCache
from spectra_jax.inference.compilation_cache.permissions import make_private_directory, require_private


def default_directory() -> Path:
    """`spectra-jax/compiled` in the user's cache directory, which is `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
      RuntimeError: the user has no home directory.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative paths ignored.
    if not caches.is_absolute():
        caches = Path.home() / ".cache"
    if not caches.is_absolute():
        raise RuntimeError(f"the home directory, {os.environ.get('HOME')!r}, is not an absolute path")
    return caches / "spectra-jax" / "compiled"


@contextmanager
def use(report: Callable[[str], None], platform: str) -> Iterator[CompilationCache | None]:
    """Store and load inside what is compiled: networks for CPUs in ours, everything for other devices in JAX's cache.

    Where the user has set JAX's own cache (`JAX_COMPILATION_CACHE_DIR`) or turned it off, only that setting counts. A
    cache that cannot be used is reported in one line and changes no score.

    Args:
      report: takes a line for the user to read; it is called once at most.
      platform: of the devices.

    Yields:
      The cache to load a scorer with, or None.
    """
    if platform != "cpu":
        with use_jax_cache(report):
            yield None
        return
    report = _once(report)
    # Code without a digest cannot be distinguished from other code, so it has no key.
    directory = None if key.CODE_DIGEST is None else _usable_directory(report)
    yield None if directory is None else CompilationCache(directory, report)


@contextmanager
def use_jax_cache(report: Callable[[str], None]) -> Iterator[None]:
    """Have JAX store and load inside everything that is compiled: for programs that have no key of ours.

    Where the user has set JAX's own cache or turned it off, nothing is changed. A cache that cannot be used is reported
    in one line.

    Args:
      report: takes a line for the user to read; it is called once at most.
    """
    report = _once(report)
    directory = _usable_directory(report)
    if directory is None:
        yield
        return
    with jax_cache.enabled(directory), jax_cache.warnings_as_reports(directory, report):
        yield


def _once(report: Callable[[str], None]) -> Callable[[str], None]:
    """`report`, called for the first line only: further lines about the cache have the same cause."""
    reported = False

    def first(line: str) -> None:
        nonlocal reported
        if not reported:
            reported = True
            report(line)

    return first


def _usable_directory(report: Callable[[str], None]) -> Path | None:
    """The cache's directory, ready to be written; None where the user chose otherwise or, reported, where it fails."""
    users_directory, enabled = jax_cache.chosen_by_user()
    if users_directory is not None or not enabled:
        return None
    try:
        directory = default_directory()
        make_private_directory(directory)
        # Entries are executables: whoever can write here can run code as this user.
        require_private(directory)
        with tempfile.TemporaryFile(dir=directory):
            pass
        jax_cache.remove_incomplete_entries(directory)
    except (OSError, RuntimeError, ValueError) as error:
        report(f"No compilation cache: {error}")
        return None
    return directory
