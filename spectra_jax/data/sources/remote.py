"""URLs wherever a path goes: what fsspec knows (s3, gs, hf, http, file and others), and local files by the same calls.

fsspec needs a package of its own for each kind of store: s3fs for s3://, gcsfs for gs://, aiohttp for http://.

Nothing is waited for without a limit. A web server that sends nothing for a minute is given up; a clip of any store is
given up after ten minutes, or once it is larger than the trial's `max_bytes`.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from threading import Event, Thread
from typing import IO, Any

from spectra_jax.data.sources.files import KNOWN, IdRule, id_of, is_audio
from spectra_jax.data.sources.source import LeftOut, Source, stamp_of
from spectra_jax.data.trial import MAX_CLIP_BYTES, Trial
from spectra_jax.errors import InputError

SILENT_SECONDS = 60.0
"""How long a web server may send nothing."""
FETCH_SECONDS = 600.0
"""How long a clip may take to come, from any store."""
_READ = 1 << 20

# What stores call that which changes with an object, the most exact first.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(text: object) -> bool:
    return isinstance(text, str) and _URL.match(text) is not None


def suffix(name: str) -> str:
    """A path's or URL's extension, in lower case."""
    return path_of(name).suffix.lower()


def path_of(name: str) -> PurePath:
    """A path or URL as one that goes by its parts, without the query of a web address."""
    if not is_url(name):
        return PurePath(name)
    return PurePosixPath(name.partition("?")[0] if _is_web(name) else name)


def is_pattern(name: str) -> bool:
    """Whether a path or URL stands for all that match it. In a web address `?` begins its query."""
    return any(mark in name for mark in ("*[" if _is_web(name) else "*?["))


def _is_web(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def beside(base: str, path: str) -> Path | str:
    """`path` as a file at `base` means it: relative to the folder of `base`, unless absolute or a URL."""
    if is_url(path):
        return path
    if is_url(base):
        # The store's own root is not this machine's: an absolute path stays one of this machine.
        return Path(path) if path.startswith("/") else posixpath.join(posixpath.dirname(base), path)
    return Path(base).parent / path


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A file or URL to read.

    Raises:
      InputError: it cannot be opened, or is no regular file; while it is read, the store fails.
    """
    if not is_url(name):
        with _said_of(name, "read"):
            _require_regular(name, name)
            file = Path(name).open("rb")  # noqa: SIM115
        with file:
            yield file
        return
    with _said_of(name, "read"):
        fs, path = _fs(name)
        _require_regular(name, path, fs)
        with fs.open(path, "rb") as file:
            yield file


def fetch(url: str, max_bytes: int = MAX_CLIP_BYTES) -> bytes:
    """All bytes of a URL.

    Raises:
      InputError: it is not there, is no regular file, the store does not give it or not in time, it is larger than
        `max_bytes`, or the store is of no known kind.
    """
    found: list[bytes | InputError] = []
    given_up = Event()

    def read() -> None:
        try:
            with _said_of(url, "read"):
                found.append(_read(url, max_bytes, given_up))
        except InputError as error:
            found.append(error)

    # On a thread of its own, since not every store's client gives up by itself.
    thread = Thread(target=read, daemon=True)
    thread.start()
    thread.join(FETCH_SECONDS)
    # Asked before it is stopped, after which it may still hand over what it has so far.
    complete = not thread.is_alive()
    given_up.set()
    if not complete:
        raise InputError(f"{url}: cannot be read: not complete after {FETCH_SECONDS:g} s")
    if isinstance(found[0], InputError):
        raise found[0]
    return found[0]


def _read(url: str, max_bytes: int, given_up: Event) -> bytes:
    fs, path = _fs(url)
    _require_regular(url, path, fs)
    # Of a web server as a stream, without asking for the size first: it need not say it, and may not say the truth.
    how = {"block_size": 0, "size": 1} if _is_web(url) else {}
    content = io.BytesIO()
    with fs.open(path, "rb", **how) as file:
        while not given_up.is_set() and (block := file.read(_READ)):
            content.write(block)
            if content.tell() > max_bytes:
                raise InputError(
                    f"{url}: more than the {max_bytes:,} bytes that are read into memory; --max-clip-bytes sets the "
                    "limit"
                )
    return content.getvalue()


def _require_regular(name: str, path: str, fs: Any = None) -> None:
    """Refuse what may never end, or never begin: `file:///dev/zero`, a pipe."""
    if fs is not None and "file" not in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        return
    mode = os.stat(path).st_mode  # noqa: PTH116
    if not stat.S_ISREG(mode):
        raise InputError(f"{name}: {'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'}, not a regular file")


def stamp(name: str) -> str | None:
    """What changes when a file or URL does: see `Trial.stamp`. Of a URL it takes one request."""
    if not is_url(name):
        return stamp_of(name)
    try:
        fs, path = _fs(name)
        return _stamp_in(fs.info(path))
    # Stores tell of what went wrong by errors of every kind. Reading the file will say what it is.
    except Exception:
        return None


def _stamp_in(info: Mapping[str, Any]) -> str | None:
    """The stamp that a store's listing gives."""
    known = [str(info[key]) for key in _VERSIONS if info.get(key) is not None]
    return f"{info.get('size')}:{known[0]}" if known else None


def glob(pattern: str) -> list[str]:
    """The URLs that a pattern matches, sorted; none where there is no such folder, or the store has none.

    Raises:
      InputError: the store does not say.
    """
    fs, path = _fs(pattern)
    with _said_of(pattern, "listed"):
        try:
            return sorted(str(fs.unstrip_protocol(one)) for one in fs.glob(path))
        except (FileNotFoundError, NotADirectoryError, NotImplementedError):
            return []


@dataclass(frozen=True)
class RemoteFiles(Source):
    """A file, folder or pattern in a store."""

    name: str
    ids: IdRule

    def listed(self, left_out: LeftOut | None = None) -> Iterator[Trial]:
        return self._trials(LeftOut() if left_out is None else left_out)

    def from_(self, start: int) -> Iterator[Trial]:
        return self._trials(LeftOut(), start)

    def _trials(self, left_out: LeftOut, start: int = 0) -> Iterator[Trial]:
        folder = f"{self.name.rstrip('/')}/"
        for url, version in islice(self._urls(left_out), start, None):
            relative = (url.removeprefix(folder),) if url.startswith(folder) else ()
            yield Trial(id_of(path_of(url), self.ids), url, stamp=version, fallbacks=(*relative, url))

    def _urls(self, left_out: LeftOut) -> Iterator[tuple[str, str | None]]:
        """URLs and their stamps."""
        fs, path = _fs(self.name)
        if not is_pattern(path) and ((_is_web(path) and "?" in path) or is_audio(path_of(path))):
            yield self.name, stamp(self.name)
            return
        with _said_of(self.name, "listed"):
            infos = fs.glob(path, detail=True) if is_pattern(path) else _found(fs, path, left_out)
        # A file that is given by its own name is taken whatever its extension.
        if list(infos) == [path]:
            audio = [path]
        else:
            audio = []
            within = 0 if is_pattern(path) else len(path)
            for one, info in sorted(infos.items()):
                if info.get("type") == "directory":
                    continue
                if any(part.startswith(".") for part in PurePosixPath(one[within:]).parts if part not in (".", "..")):
                    left_out.add(one, "hidden")
                elif is_audio(path_of(one)):
                    audio.append(one)
                else:
                    left_out.add(one)
        if not audio:
            others = "".join(f"; {line}" for line in left_out.lines())
            raise InputError(f"{self.name}: no audio files there{others} ({KNOWN})")
        for one in audio:
            yield str(fs.unstrip_protocol(one)), _stamp_in(infos[one])


def _found(fs: Any, folder: str, left_out: LeftOut) -> dict[str, Mapping[str, Any]]:
    """What a store has at a path or below it, and what it knows of each; folders that it does not list are counted."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    base = AsyncFileSystem._find if isinstance(fs, AsyncFileSystem) else AbstractFileSystem.find
    if getattr(type(fs), base.__name__) is not base or not fs.isdir(folder):
        # Stores of objects have no folders, and list all by one request or a few.
        return dict(fs.find(folder, detail=True))
    # fsspec's own walk passes over folders that cannot be listed.
    infos: dict[str, Mapping[str, Any]] = {}
    pending, entered = [folder], {folder}
    while pending:
        here = pending.pop()
        try:
            listing = fs.ls(here, detail=True)
        # Stores tell of what went wrong by errors of every kind.
        except Exception as error:
            if here == folder:
                raise
            left_out.add_unreadable(fs.unstrip_protocol(here), f"cannot be listed: {_reason(error)}")
            continue
        for info in listing:
            name = info["name"]
            if info["type"] != "directory":
                infos[name] = info
            elif (below := name.rstrip("/")) not in entered:
                entered.add(below)
                pending.append(name)
    return infos


@contextmanager
def _said_of(name: str, what: str) -> Iterator[None]:
    """Whatever goes wrong with a file or a store, as an error for people."""
    try:
        yield
    except InputError:
        raise
    # Stores tell of what went wrong by errors of every kind.
    except Exception as error:
        raise InputError(f"{name}: cannot be {what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not error.strerror:
        return f"no answer for {SILENT_SECONDS:g} s"
    # That of a web address that was refused hides why in its cause.
    reason = getattr(error, "strerror", None) or error.__cause__ or error
    if reason is error and isinstance(error, FileNotFoundError):
        reason = "it is not there"
    return str(reason) or type(reason).__name__


def _fs(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url, **_web_options(url))
    except (ValueError, ImportError) as error:
        raise InputError(f"{url}: {error}") from error


def _web_options(url: str) -> dict[str, Any]:
    """For a web server a limit on how long it sends nothing, rather than one on the whole of a large file."""
    if not _is_web(url):
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENT_SECONDS, sock_read=SILENT_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}
