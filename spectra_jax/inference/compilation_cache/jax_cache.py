"""JAX's persistent compilation cache: its settings, and one line for its warnings."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

# Of all entries together. The least recently used are removed first.
MAX_TOTAL_BYTES = 512 * 2**20
# A training step takes seconds to compile; what takes less than this is not worth a file.
_MIN_COMPILE_SECONDS = 0.5

_WARNING = re.compile(
    r"Error (?P<activity>reading|writing) persistent compilation cache entry for '(?P<module>[^']*)': "
)


def chosen_by_user() -> tuple[str | None, bool]:
    """Where the user has put JAX's own cache, and whether it is on."""
    return jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]


def disabled() -> AbstractContextManager[None]:
    """Neither store nor load executables inside, whatever the user's settings are."""
    return _set({"jax_enable_compilation_cache": False})


def enabled(directory: Path) -> AbstractContextManager[None]:
    """Have JAX store and load executables in a directory inside."""
    return _set(
        {
            "jax_compilation_cache_dir": str(directory),
            "jax_compilation_cache_max_size": MAX_TOTAL_BYTES,
            "jax_persistent_cache_min_compile_time_secs": _MIN_COMPILE_SECONDS,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
    )


@contextmanager
def _set(settings: Mapping[str, Any]) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def remove_incomplete_entries(directory: Path) -> None:
    """Remove entries without the file of their time of use, which a run leaves that is killed between the two.

    JAX reads the time of every entry when it writes one, and with such an entry it would never write again.
    """
    for entry in directory.glob("*-cache"):
        if not entry.with_name(entry.name.removesuffix("-cache") + "-atime").exists():
            entry.unlink(missing_ok=True)


@contextmanager
def warnings_as_reports(directory: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Report JAX's warnings about its cache in a line, and remove an entry that cannot be read.

    JAX compiles instead of loading a damaged entry, but leaves the entry in place, so every later run would warn again.
    It offers no other way to learn of the failure than the warning.
    """

    def show(message: Warning | str, *location: Any, **options: Any) -> None:
        failure = _WARNING.match(str(message))
        if failure is None:
            showwarning(message, *location, **options)
            return
        reason = str(message)[failure.end() :].splitlines()[0]
        if failure["activity"] == "reading":
            # All entries of this module, since JAX does not name the one.
            for entry in directory.glob(f"{failure['module']}-*-cache"):
                with suppress(OSError):
                    entry.unlink()
        problem = f"{failure['activity']} an entry failed, so the network was compiled"
        report(f"Compilation cache {directory}: {problem} ({reason})")

    with warnings.catch_warnings():
        # By default a warning is shown once, and a second damaged entry would stay.
        warnings.filterwarnings("always", _WARNING.pattern, UserWarning)
        showwarning, warnings.showwarning = warnings.showwarning, show
        yield
