"""Compiled programs kept between runs of the command line, in a folder of the user's own.

What scores on a CPU is found by what it is made from, so that a second start need neither trace nor compile. All else
goes through JAX's persistent compilation cache, which finds a compiled program by the traced one.

The library never turns either on: a program that imports it has its own say in JAX's settings.

What lies in the cache is run, so nobody but the user and root may be able to put anything there: every directory from
the root to the cache's is checked, symbolic links included. Our own entries are pickles and machine code, and each is
signed (HMAC-SHA256) with a random key in the cache folder that only the user can read; the signature is checked before
anything else is done with an entry. JAX's entries carry no signature: for them the check of the directories is all.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import itertools
import os
import platform
import re
import secrets
import stat
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

from spectra_jax.files.untrusted import open_regular, read_bounded

# Of what JAX keeps. The least recently used go first.
MOST_BYTES = 512 * 2**20
# A step of training takes seconds to compile; what takes less than this is not worth a file.
_WORTH_KEEPING_SECONDS = 0.5
# A compiled network takes about a megabyte for a CPU, and some times that before it is compressed.
_MOST_NETWORKS = 64
_LARGEST_ENTRY = 64 * 2**20
_LARGEST_PROGRAM = 512 * 2**20

# As many as Linux follows.
_MOST_LINKS = 40

_KEY_FILE = "spectra-key"
_KEY_BYTES = 32
_SIGNATURE_BYTES = hashlib.sha256().digest_size

_TROUBLE = re.compile(r"Error (?P<did>reading|writing) persistent compilation cache entry for '(?P<module>[^']*)': ")


def place() -> Path:
    """`spectra-jax/compiled` in the user's cache folder, which is `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
      RuntimeError: the user has no home directory.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # By the rules of XDG a relative path there counts for nothing.
    if not caches.is_absolute():
        caches = Path.home() / ".cache"
    if not caches.is_absolute():
        raise RuntimeError(f"the home directory, {os.environ.get('HOME')!r}, is not an absolute path")
    return caches / "spectra-jax" / "compiled"


class DamagedError(Exception):
    """A cached network could not be loaded. The user was informed, and the entry is removed where that is possible."""


class CompiledNetworks:
    """Compiled networks in a folder. One that cannot be kept or loaded costs a line, no score.

    An entry is a signature and a compressed program. The signature covers the entry's name as well, so that no program
    can stand in for another.

    Args:
      folder: is made when it is needed. Only the user may write there: its entries are programs.
      say: takes a line for the user to read.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self._folder = folder
        self._say = say
        self._secret: bytes | None = None

    def key(self, facts: str) -> str:
        """What a network is found by: its facts, this package's code, versions, settings of JAX and XLA, and the host.

        To be asked for under the settings that the network is traced under.

        Args:
          facts: all else that the compiled network depends on.
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
            _require_private(self._folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._say(f"compile cache {self._folder} is not used: {error}")
            return None
        try:
            content = self._program(file.name, _read_own(file, _LARGEST_ENTRY))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, zlib.error) as error:
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
            packed = zlib.compress(content, level=1)
            if len(packed) > _LARGEST_ENTRY - _SIGNATURE_BYTES or len(content) > _LARGEST_PROGRAM:
                raise ValueError(f"a program of {len(content):,} bytes is larger than a cached one may be")
            _make_private(self._folder)
            _require_private(self._folder)
            file = self._file(key)
            _write_own(file, self._signature(file.name, packed) + packed)
            self._remove_oldest()
        # Not every backend can, and what is kept must never cost a score.
        except Exception as error:
            self._say(f"compile cache {self._folder}: the compiled network is not kept ({error})")

    def _program(self, name: str, entry: bytes) -> bytes:
        """The program in an entry of this name; ValueError where the entry was not written with this folder's key."""
        signature, packed = entry[:_SIGNATURE_BYTES], entry[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(name, packed)):
            raise ValueError("its signature is wrong: it is damaged, or was not written with this folder's key")
        decompressor = zlib.decompressobj()
        content = decompressor.decompress(packed, _LARGEST_PROGRAM)
        if not decompressor.eof:
            raise ValueError(f"it is cut short, or unpacks to more than {_LARGEST_PROGRAM:,} bytes")
        return content

    def _signature(self, name: str, packed: bytes) -> bytes:
        if self._secret is None:
            self._secret = _signing_key(self._folder)
        return hmac.digest(self._secret, name.encode() + b"\0" + packed, "sha256")

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
            files.sort(key=lambda file: file.lstat().st_mtime)
            for file in files[:-_MOST_NETWORKS]:
                file.unlink()


def _signing_key(folder: Path) -> bytes:
    """The random key of a cache folder, made where there is none. Of two processes that make one, both use the first.

    A key that is not whole, or that others may read or write, is replaced; what it signed is then compiled anew.
    """
    file = folder / _KEY_FILE
    for _ in range(3):
        try:
            key = _read_own(file, _KEY_BYTES, readable_by_others=False)
            if len(key) == _KEY_BYTES:
                return key
            file.unlink()
        except FileNotFoundError:
            pass
        except (OSError, ValueError):
            file.unlink()
        with suppress(FileExistsError):
            _write_own(file, secrets.token_bytes(_KEY_BYTES), replace=False)
    raise OSError(f"{file} cannot be made")


def _read_own(path: Path, limit: int, *, readable_by_others: bool = True) -> bytes:
    """The content of a regular file that is the user's own, and that nobody else may write.

    Raises:
      OSError: it is another kind of file, another user's, or open to others.
      ValueError: it has more than `limit` bytes.
    """
    with open_regular(path, follow_symlinks=False) as file:
        if hasattr(os, "geteuid"):
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid():
                raise PermissionError(f"{path.name} is another user's file")
            if status.st_mode & (0o022 if readable_by_others else 0o077):
                raise PermissionError(f"{path.name} is open to others")
        return read_bounded(file, limit)


def _write_own(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file that only the user can read, and that appears whole or not at all.

    Without waiting for the disk: a signature tells what a loss of power leaves, and a disk may take a second that a
    first score waits for.

    Raises:
      FileExistsError: without `replace`, where the file exists.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
        if replace:
            partial.replace(path)
        else:
            try:
                path.hardlink_to(partial)
            except FileExistsError:
                raise
            except OSError:  # not every file system has hard links
                partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _make_private(folder: Path) -> None:
    """Make a directory, and those above it that are missing, for the user alone."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _require_private(folder: Path) -> None:
    """See that nobody but the user and root can put anything into a directory, or replace it by another.

    Goes from the root down, through symbolic links as well, so that nobody can change what was checked already.

    Raises:
      PermissionError: somebody else can. Names the directory or link, and what to do.
      OSError: it cannot be found out, or does not exist.
    """
    if not hasattr(os, "geteuid"):
        return
    advice = "set XDG_CACHE_HOME to a directory that only you can write"
    names = [*reversed(folder.absolute().parts)]
    path, num_links = Path(names.pop()), 0
    while names:
        name = names.pop()
        above, path = path, path.parent if name == ".." else path / name
        status = path.lstat()
        if status.st_uid not in (0, os.geteuid()):
            raise PermissionError(f"{path}: it is another user's, who could replace the programs in {folder}; {advice}")
        if stat.S_ISLNK(status.st_mode):
            num_links += 1
            if num_links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
            target = path.readlink()
            names += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            path = Path(target.anchor) if target.is_absolute() else above
        elif not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(f"{path} is not a directory")
        elif names and _others_may_replace(status):
            raise PermissionError(
                f"{path}: others may write there, and could replace the programs in {folder}; `chmod go-w` it, or "
                f"{advice}"
            )
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder}: it is another user's, and holds programs")
    if status.st_mode & 0o022:
        raise PermissionError(f"{folder}: others may write there, and it holds programs; `chmod go-w` it")


def _others_may_replace(directory: os.stat_result) -> bool:
    """Whether users besides its owner can replace what lies in a directory.

    In a sticky one, such as `/tmp`, they can add to it only. A group that holds nobody but the user is no danger: many
    systems give each user such a group, and make new directories writable by it.
    """
    if directory.st_mode & stat.S_ISVTX:
        return False
    return bool(directory.st_mode & 0o002 or (directory.st_mode & 0o020 and not _is_the_users_alone(directory.st_gid)))


def _is_the_users_alone(gid: int) -> bool:
    import grp  # neither is there on Windows
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    alone = user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    return alone and user.pw_uid != 0


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
_CODE = _digest(Path(__file__).parents[1])
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
    """Our cache folder, ready to be written; None, and a line, where it cannot be used."""
    try:
        folder = place()
        _prepare(folder)
    except (OSError, RuntimeError, ValueError) as error:
        say(f"no compile cache: {error}")
        return None
    return folder


def _prepare(folder: Path) -> None:
    _make_private(folder)
    # Entries are programs: whoever can write here can run code as this user.
    _require_private(folder)
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
