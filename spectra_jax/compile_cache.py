"""Compiled programs kept between runs of the command line, in a place of the person's own.

What scores on a CPU is found by what it is made from, so that a second start need neither trace nor compile. All else
goes through JAX's persistent compilation cache, which finds a compiled program by the traced one.

The library never turns either on: a program that imports it has its own say in JAX's settings.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import flax
import jax
import jax.monitoring
import jaxlib.version
import numpy as np
from jax.experimental import serialize_executable

from spectra_jax.atomic import atomic_file

# Of what JAX keeps. The least recently used go first.
MOST_BYTES = 512 * 2**20
# A step of training takes seconds to compile; what takes less than this is not worth a file.
_WORTH_KEEPING_SECONDS = 0.5
# A compiled network takes about a megabyte for a CPU.
_MOST_NETWORKS = 64

_TROUBLE = re.compile(r"Error (?P<did>reading|writing) persistent compilation cache entry for '(?P<module>[^']*)': ")


def place() -> Path:
    """`spectra-jax/compiled` in the person's cache folder, which is `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
      RuntimeError: this person has no home.
    """
    caches = os.environ.get("XDG_CACHE_HOME", "")
    # By the rules of XDG a relative path there counts for nothing.
    return (Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache") / "spectra-jax" / "compiled"


class DamagedError(Exception):
    """What was kept turned out to be no network. The person was told, and it is gone if it could be removed."""


class CompiledNetworks:
    """Compiled networks in a folder. One that cannot be kept or taken costs a line, no score.

    Args:
      folder: comes to be when it is needed. Only the person may write there: its entries are programs.
      say: takes a line for the person to read.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self._folder = folder
        self._say = say

    def key(self, facts: str) -> str:
        """What a network is found by: its facts, this package's code, versions, settings of JAX and XLA, and the host.

        To be asked for under the settings that the network is traced under.

        Args:
          facts: all else that the compiled network goes by.
        """
        told = repr([facts, _CODE, _VERSIONS, _host(), _settings()])
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def find(
        self, key: str, devices: Sequence[jax.Device], arguments: tuple[Any, ...]
    ) -> Callable[[], jax.stages.Compiled] | None:
        """What was compiled before and has this key.

        Args:
          key: from `key`.
          devices: to run it.
          arguments: trees of the form that it takes; it returns one array.

        Returns:
          What loads it, or raises DamagedError; None where nothing is kept.
        """
        file = self._file(key)
        try:
            # zlib's checksum tells a damaged entry.
            content = zlib.decompress(file.read_bytes())
        except OSError:
            return None
        except zlib.error as error:
            self._discard(file, error)
            return None
        # A folder may be there to be read only.
        with suppress(OSError):
            os.utime(file)
        taken, returned = jax.tree.structure((arguments, {})), jax.tree.structure(0)

        def load() -> jax.stages.Compiled:
            try:
                return serialize_executable.deserialize_and_load(content, taken, returned, devices[0].client, devices)
            except Exception as error:
                self._discard(file, error)
                raise DamagedError from error

        return load

    def compiled(self, key: str, lowered: jax.stages.Lowered, options: dict[str, str | bool]) -> jax.stages.Compiled:
        """Compile a network, and keep it by its key before it runs: XLA cannot write some of what has run.

        What JAX took from a cache of its own is not kept. XLA writes that without a word, and without its code.
        """
        hits: list[str] = []

        def note(event: str, **_: str | int) -> None:
            if event.endswith("/cache_hits"):
                hits.append(event)

        jax.monitoring.register_event_listener(note)
        try:
            compiled = lowered.compile(options)
        finally:
            jax.monitoring.unregister_event_listener(note)
        if not hits:
            self._keep(key, compiled)
        return compiled

    def _keep(self, key: str, compiled: jax.stages.Compiled) -> None:
        try:
            content, _, _ = serialize_executable.serialize(compiled)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A checksum tells what a loss of power leaves, and a disk may take a second that a first score waits for.
            with atomic_file(self._file(key), on_disk=False) as out:
                out.write(zlib.compress(content, level=1))
        # Not every backend can, and what is kept must never cost a score.
        except Exception as error:
            self._say(f"compile cache {self._folder}: the compiled network is not kept ({error})")
        self._remove_oldest()

    def _file(self, key: str) -> Path:
        return self._folder / f"spectra-{key}.compiled"

    def _discard(self, file: Path, error: Exception) -> None:
        with suppress(OSError):
            file.unlink()
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        self._say(f"compile cache {self._folder}: trouble reading it, so the network is compiled anew ({reason})")

    def _remove_oldest(self) -> None:
        # With what a run that was killed left half written. Another run may remove them at the same time, and others'
        # files may not be ours to remove.
        with suppress(OSError):
            files = [*self._folder.glob("spectra-*.compiled"), *self._folder.glob(".spectra-*.partial")]
            files.sort(key=lambda file: file.stat().st_mtime)
            for file in files[:-_MOST_NETWORKS]:
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


def _host() -> list[object]:
    """What code was compiled for, besides the devices: this CPU and its instructions, and as many threads."""
    told: list[object] = [platform.machine(), os.cpu_count()]
    with suppress(AttributeError, OSError):
        told.append(len(os.sched_getaffinity(0)))
    with suppress(OSError), Path("/proc/cpuinfo").open() as file:
        of_one = itertools.takewhile(str.strip, file)
        told += [line for line in of_one if line.startswith(("model name", "flags", "Features"))]
    return told


def xla_flags() -> str:
    """The person's flags for XLA: those of `XLA_FLAGS`, or of the file that it names."""
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if flags and not flags.startswith("-"):
        with suppress(OSError, ValueError):
            return Path(flags).read_text()
    return flags


def _settings() -> list[object]:
    """JAX's, XLA's and Flax's settings, but for those that say where and what to keep."""
    where = ("jax_compilation_cache", "jax_persistent_cache")
    ours = sorted((name, value) for name, value in jax.config.values.items() if not name.startswith(where))
    told = ("FLAX_", "NPROC", "PJRT_", "TF_", "XLA_")
    return [ours, xla_flags(), sorted((name, value) for name, value in os.environ.items() if name.startswith(told))]


@contextmanager
def kept(say: Callable[[str], None], platform: str) -> Iterator[CompiledNetworks | None]:
    """Keep what is compiled inside, and take from what was kept: networks for a CPU, and by JAX all for other devices.

    Where the person has set JAX's own cache (`JAX_COMPILATION_CACHE_DIR`) or turned it off, that is all there is. A
    cache that cannot be used costs one line, no score.

    Args:
      say: takes a line for the person to read, once at most.
      platform: of the devices.

    Yields:
      Where networks are kept, if they are.
    """
    if platform != "cpu":
        with jax_kept(say):
            yield None
        return
    say = _once(say)
    theirs, on = _of_the_person()
    # Code that cannot be told from other code has no key.
    folder = _prepared(say) if theirs is None and on and _CODE is not None else None
    yield None if folder is None else CompiledNetworks(folder, say)


@contextmanager
def jax_kept(say: Callable[[str], None]) -> Iterator[None]:
    """Have JAX keep all that is compiled inside, and take from what it kept: for programs that have no key of ours.

    Where the person has set JAX's own cache or turned it off, nothing is changed. A cache that cannot be used costs one
    line.

    Args:
      say: takes a line for the person to read, once at most.
    """
    say = _once(say)
    theirs, on = _of_the_person()
    folder = _prepared(say) if theirs is None and on else None
    if folder is None:
        yield
        return
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": MOST_BYTES,
        "jax_persistent_cache_min_compile_time_secs": _WORTH_KEEPING_SECONDS,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _set(settings), _trouble_told(folder, say):
        yield


def _of_the_person() -> tuple[str | None, bool]:
    """Where the person has put JAX's own cache, and whether it is on."""
    return jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]


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


def _prepared(say: Callable[[str], None]) -> Path | None:
    """Our place, ready to be written; None, and a line, where it cannot be."""
    try:
        folder = place()
        _prepare(folder)
    except (OSError, RuntimeError) as error:
        say(f"no compile cache: {error}")
        return None
    return folder


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Entries are programs: whoever may write here may run code as this person.
    if hasattr(os, "geteuid"):
        status = folder.stat()
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{folder}: it is another user's, and holds programs")
        if status.st_mode & 0o022:
            raise PermissionError(f"{folder}: others may write there, and it holds programs; `chmod go-w` it")
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
