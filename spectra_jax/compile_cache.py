"""Compiled networks kept between runs of the command line: JAX's persistent compilation cache, in a place of our own.

The library never turns it on: a program that imports it has its own say in JAX's settings.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

# A compiled network takes about a megabyte for a CPU. The least recently used go first.
MOST_BYTES = 512 * 2**20
# The network takes seconds to compile; what takes less than this is not worth a file.
_WORTH_KEEPING_SECONDS = 0.5

_TROUBLE = re.compile(r"Error (?P<did>reading|writing) persistent compilation cache entry for '(?P<module>[^']*)': ")


def place() -> Path:
    """`spectra-jax/compiled` in the person's cache folder, which is `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
      RuntimeError: this person has no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME", "")
    # By the rules of XDG a relative path there counts for nothing.
    return (Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache") / "spectra-jax" / "compiled"


@contextmanager
def kept(say: Callable[[str], None]) -> Iterator[None]:
    """Keep what is compiled inside, and take from what was kept. A cache that cannot be used costs one line, no score.

    Where the person has set JAX's own cache (`JAX_COMPILATION_CACHE_DIR`) or turned it off, nothing is changed.

    Args:
      say: takes a line for the person to read, once at most.
    """
    if jax.config.jax_compilation_cache_dir is not None or not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        yield
        return
    try:
        folder = place()
        _prepare(folder)
    except (OSError, RuntimeError) as error:
        say(f"no compile cache: {error}")
        yield
        return
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": MOST_BYTES,
        "jax_persistent_cache_min_compile_time_secs": _WORTH_KEEPING_SECONDS,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _set(settings), _trouble_told_once(folder, say):
        yield


def off() -> AbstractContextManager[None]:
    """Neither keep nor take anything inside, whatever the person's settings say."""
    return _set({"jax_enable_compilation_cache": False})


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


def _prepare(folder: Path) -> None:
    # Entries are programs: whoever may write here may run code as this person.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    # A run that was killed between an entry and the file with its time of use leaves the first alone, and JAX, which
    # weighs them all when it writes, would never write again.
    for entry in folder.glob("*-cache"):
        if not entry.with_name(entry.name.removesuffix("-cache") + "-atime").exists():
            entry.unlink(missing_ok=True)


@contextmanager
def _trouble_told_once(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Turn JAX's warnings about its cache into one line, and remove an entry that cannot be read.

    JAX compiles instead of a damaged entry, but leaves it where it is, to be stumbled over in every run to come.
    """
    told = False

    def show(message: Warning | str, *where: Any, **how: Any) -> None:
        nonlocal told
        trouble = _TROUBLE.match(str(message))
        if trouble is None:
            showwarning(message, *where, **how)
            return
        reason = str(message)[trouble.end() :].splitlines()[0]
        if trouble["did"] == "reading":
            # All of the program's entries, since JAX does not say which.
            for entry in folder.glob(f"{trouble['module']}-*-cache"):
                with suppress(OSError):
                    entry.unlink()
        if not told:
            told = True
            say(f"compile cache {folder}: trouble {trouble['did']} it, so the network was compiled ({reason})")

    with warnings.catch_warnings():
        # By default a warning is shown once, and the second damaged entry would stay.
        warnings.filterwarnings("always", _TROUBLE.pattern, UserWarning)
        showwarning, warnings.showwarning = warnings.showwarning, show
        yield
