"""Traced and compiled networks kept between runs of the command line, in a place of our own.

JAX's persistent compilation cache keeps what was compiled, and finds it by the traced program: tracing would be the
longest part of a second start. So the traced program is kept as well.

The library never turns either on: a program that imports it has its own say in JAX's settings.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import flax
import jax
import jax.export
import jaxlib.version
import numpy as np

from spectra_jax.atomic import atomic_file

# A compiled network takes about a megabyte for a CPU. The least recently used go first.
MOST_BYTES = 512 * 2**20
# The network takes seconds to compile; what takes less than this is not worth a file.
_WORTH_KEEPING_SECONDS = 0.5
# Traced networks take up to 0.2 MB each.
_MOST_TRACED = 64

_TROUBLE = re.compile(r"Error (?P<did>reading|writing) persistent compilation cache entry for '(?P<module>[^']*)': ")


def place() -> Path:
    """`spectra-jax/compiled` in the person's cache folder, which is `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
      RuntimeError: this person has no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME", "")
    # By the rules of XDG a relative path there counts for nothing.
    return (Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache") / "spectra-jax" / "compiled"


class TracedNetworks:
    """Traced networks in a folder. One that cannot be kept costs a line, no score.

    Args:
      folder: comes to be when it is needed. Only the person may write there: its entries are programs.
      say: takes a line for the person to read.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self._folder = folder
        self._say = say

    def get(self, facts: str, trace: Callable[[], jax.export.Exported]) -> jax.export.Exported:
        """What was traced before from the same facts, with the same code and settings; otherwise traced now, and kept.

        Args:
          facts: all that `trace` goes by, besides this package's code, the versions of what it stands on and JAX's
            settings.
          trace: makes it.
        """
        if _CODE is None:
            return trace()
        digest = hashlib.sha256(repr([facts, _CODE, _VERSIONS, _settings()]).encode()).hexdigest()
        file = self._folder / f"spectra-{digest[:32]}.traced"
        # zlib's checksum tells a damaged entry, which is made anew.
        with suppress(OSError, zlib.error):
            exported = jax.export.deserialize(bytearray(zlib.decompress(file.read_bytes())))
            # A folder may be there to be read only.
            with suppress(OSError):
                os.utime(file)
            return exported
        exported = trace()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as out:
                out.write(zlib.compress(exported.serialize()))
        except OSError as error:
            self._say(f"compile cache {self._folder}: the traced network is not kept ({error})")
        self._remove_oldest()
        return exported

    def _remove_oldest(self) -> None:
        # With what a run that was killed left half written. Another run may remove them at the same time, and others'
        # files may not be ours to remove.
        with suppress(OSError):
            files = [*self._folder.glob("spectra-*.traced"), *self._folder.glob(".spectra-*.partial")]
            files.sort(key=lambda file: file.stat().st_mtime)
            for file in files[:-_MOST_TRACED]:
                file.unlink()


def _digest(package: Path) -> str | None:
    """Of all code in a folder; None where there is none to be read, as in a zipped package."""
    digest = hashlib.sha256()
    try:
        files = {str(file.relative_to(package)): file.read_bytes() for file in package.rglob("*.py")}
    except OSError:
        return None
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode())
        digest.update(files[name])
    return digest.hexdigest() if files else None


# As this process has imported it: what is on the disk later may be another version.
_CODE = _digest(Path(__file__).parent)
_VERSIONS = [sys.version, jax.__version__, jaxlib.version.__version__, flax.__version__, np.__version__]


def _settings() -> list[object]:
    """JAX's and Flax's settings, but for those that say where and what to keep."""
    where = ("jax_compilation_cache", "jax_persistent_cache")
    ours = sorted((name, value) for name, value in jax.config.values.items() if not name.startswith(where))
    return [ours, sorted((name, value) for name, value in os.environ.items() if name.startswith("FLAX_"))]


@contextmanager
def kept(say: Callable[[str], None]) -> Iterator[TracedNetworks | None]:
    """Keep what is compiled inside, and take from what was kept. A cache that cannot be used costs one line, no score.

    Where the person has set JAX's own cache (`JAX_COMPILATION_CACHE_DIR`) or turned it off, nothing is changed.

    Args:
      say: takes a line for the person to read, once at most.

    Yields:
      Where traced networks are kept; None where there is no such place.
    """
    say = _once(say)
    theirs: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    on: bool = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    if theirs is not None or not on:
        # Theirs may be empty, which is off as well, or a bucket.
        yield TracedNetworks(Path(theirs), say) if theirs and on and "://" not in theirs else None
        return
    try:
        folder = place()
        _prepare(folder)
    except (OSError, RuntimeError) as error:
        say(f"no compile cache: {error}")
        yield None
        return
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": MOST_BYTES,
        "jax_persistent_cache_min_compile_time_secs": _WORTH_KEEPING_SECONDS,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _set(settings), _trouble_told(folder, say):
        yield TracedNetworks(folder, say)


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    """`say`, heard once: what follows a line about the cache is the same trouble."""
    told = False

    def first(line: str) -> None:
        nonlocal told
        if not told:
            told = True
            say(line)

    return first


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
def _trouble_told(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Turn JAX's warnings about its cache into one line, and remove an entry that cannot be read.

    JAX compiles instead of a damaged entry, but leaves it where it is, to be stumbled over in every run to come.
    """

    def show(message: Warning | str, *where: Any, **how: Any) -> None:
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
        say(f"compile cache {folder}: trouble {trouble['did']} it, so the network was compiled ({reason})")

    with warnings.catch_warnings():
        # By default a warning is shown once, and the second damaged entry would stay.
        warnings.filterwarnings("always", _TROUBLE.pattern, UserWarning)
        showwarning, warnings.showwarning = warnings.showwarning, show
        yield
