"""URLs that fsspec can read (s3, gs, hf, http, file and others), and local files by the same functions.

fsspec needs another package for each kind of store: s3fs for s3://, gcsfs for gs://, aiohttp for http://.

Every wait has a limit. Reading fails if a web server sends nothing for a minute; reading a clip from any store fails
after ten minutes, or once the clip is larger than the trial's `max_bytes`.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from threading import Event, Thread
from typing import IO, Any

from spectra_jax.data.sources.files import KNOWN, IdRule, id_of, is_audio
from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.sources.source import Source, file_stamp
from spectra_jax.data.text import open_plain_file
from spectra_jax.data.trial import MAX_CLIP_BYTES, Trial
from spectra_jax.errors import InputError
from spectra_jax.files.untrusted import require_plain_file

SILENT_SECONDS = 60.0
"""How long a web server may send nothing before reading fails. A program may set another limit."""
FETCH_SECONDS = 600.0
"""How long fetching a clip may take, from any store, before it fails. A program may set another limit."""
_READ = 1 << 20

# The fields of a store's listing that change with an object, the most exact first.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(text: object) -> bool:
    """Whether this is text that begins like `s3://`."""
    return isinstance(text, str) and _URL.match(text) is not None


def suffix(name: str) -> str:
    """A path's or URL's extension, in lower case."""
    return path_of(name).suffix.lower()


def path_of(name: str) -> PurePath:
    """A path or URL as a path, whose parts can be taken apart; without the query of a web address."""
    if not is_url(name):
        return PurePath(name)
    return PurePosixPath(name.partition("?")[0] if _is_web(name) else name)


def is_pattern(name: str) -> bool:
    """Whether a path or URL is a glob pattern. In a web address `?` begins its query."""
    return any(mark in name for mark in ("*[" if _is_web(name) else "*?["))


def _is_web(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def beside(base: str, path: str) -> Path | str:
    """A path as written in the file `base`: relative to the folder of `base`, unless absolute or a URL."""
    if is_url(path):
        return path
    if is_url(base):
        # An absolute path is one of this machine, not of the store.
        return Path(path) if path.startswith("/") else posixpath.join(posixpath.dirname(base), path)
    return Path(base).parent / path


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A file or URL to read.

    Raises:
      InputError: it cannot be opened, or is not a regular file; or the store fails while it is read.
    """
    if not is_url(name):
        with open_plain_file(name) as file:
            yield file
        return
    with _explained(name, "read"):
        fs, path = _fs(name)
        _require_regular(name, path, fs)
        with fs.open(path, "rb") as file:
            yield file


def fetch(url: str, max_bytes: int = MAX_CLIP_BYTES) -> bytes:
    """All bytes of a URL.

    Raises:
      InputError: it does not exist, is not a regular file or is larger than `max_bytes`; the store refuses it, or does
        not send it within `FETCH_SECONDS`; or fsspec does not know the kind of store.
    """
    found: list[bytes | InputError] = []
    stop = Event()

    def read() -> None:
        try:
            with _explained(url, "read"):
                found.append(_read(url, max_bytes, stop))
        except InputError as error:
            found.append(error)

    # On a thread of its own, since not every store's client has a time limit.
    thread = Thread(target=read, daemon=True)
    thread.start()
    thread.join(FETCH_SECONDS)
    # Before it is stopped: a stopped thread ends with what it has read so far.
    complete = not thread.is_alive()
    stop.set()
    if not complete:
        raise InputError(f"{url}: cannot be read: not complete after {FETCH_SECONDS:g} s")
    if isinstance(found[0], InputError):
        raise found[0]
    return found[0]


def _read(url: str, max_bytes: int, stop: Event) -> bytes:
    fs, path = _fs(url)
    _require_regular(url, path, fs)
    # From a web server as a stream, without requesting the size first: it need not state it, or may state a wrong one.
    options = {"block_size": 0, "size": 1} if _is_web(url) else {}
    content = io.BytesIO()
    with fs.open(path, "rb", **options) as file:
        while not stop.is_set() and (block := file.read(_READ)):
            content.write(block)
            if content.tell() > max_bytes:
                raise InputError(
                    f"{url}: more than the {max_bytes:,} bytes that are read into memory; --max-clip-bytes sets the "
                    "limit"
                )
    return content.getvalue()


def _require_regular(name: str, path: str, fs: Any) -> None:
    """Refuse local files whose reading may never begin or never end: a pipe, `file:///dev/zero`."""
    if "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        require_plain_file(path, name)


def stamp(name: str) -> str | None:
    """The `Trial.stamp` of a file or URL; for a URL, this takes a request."""
    if not is_url(name):
        return file_stamp(name)
    try:
        fs, path = _fs(name)
        return _stamp_in(fs.info(path))
    # Stores raise errors of every kind. Reading the file will report what is wrong.
    except Exception:
        return None


def _stamp_in(info: Mapping[str, Any]) -> str | None:
    """The stamp by a store's listing."""
    known = [str(info[key]) for key in _VERSIONS if info.get(key) is not None]
    return f"{info.get('size')}:{known[0]}" if known else None


def glob(pattern: str) -> list[str]:
    """The URLs that a pattern matches, sorted; none if its folder does not exist.

    Raises:
      InputError: the store cannot list them.
    """
    fs, path = _fs(pattern)
    with _explained(pattern, "listed"):
        try:
            return sorted(str(fs.unstrip_protocol(one)) for one in fs.glob(path))
        except (FileNotFoundError, NotADirectoryError, NotImplementedError):
            return []


@dataclass(frozen=True)
class RemoteFiles(Source):
    """A file, folder or pattern in a store."""

    name: str
    ids: IdRule

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        return self._trials(SkippedInputs() if skipped is None else skipped)

    def read_trials(self, start: int) -> Iterator[Trial]:
        return self._trials(SkippedInputs(), start)

    def _trials(self, skipped: SkippedInputs, start: int = 0) -> Iterator[Trial]:
        folder = f"{self.name.rstrip('/')}/"
        for url, version in islice(self._urls(skipped), start, None):
            relative = (url.removeprefix(folder),) if url.startswith(folder) else ()
            yield Trial(id_of(path_of(url), self.ids), url, stamp=version, fallbacks=(*relative, url))

    def _urls(self, skipped: SkippedInputs) -> Iterator[tuple[str, str | None]]:
        """URLs and their stamps."""
        fs, path = _fs(self.name)
        if not is_pattern(path) and ((_is_web(path) and "?" in path) or is_audio(path_of(path))):
            yield self.name, stamp(self.name)
            return
        with _explained(self.name, "listed"):
            infos = fs.glob(path, detail=True) if is_pattern(path) else _found(fs, path, skipped)
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
                    skipped.add(one, "hidden")
                elif is_audio(path_of(one)):
                    audio.append(one)
                else:
                    skipped.add(one)
        if not audio:
            raise InputError(f"{self.name}: no audio files found{skipped.details()} ({KNOWN})")
        for one in audio:
            yield str(fs.unstrip_protocol(one)), _stamp_in(infos[one])


def _found(fs: Any, folder: str, skipped: SkippedInputs) -> dict[str, Mapping[str, Any]]:
    """The files of a store at a path or below it, with their listing; folders that it does not list are counted."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    base = AsyncFileSystem._find if isinstance(fs, AsyncFileSystem) else AbstractFileSystem.find
    if getattr(type(fs), base.__name__) is not base or not fs.isdir(folder):
        # Object stores have no folders, and list everything with a few requests.
        return dict(fs.find(folder, detail=True))
    # fsspec's own walk silently skips folders that cannot be listed.
    infos: dict[str, Mapping[str, Any]] = {}
    pending, entered = [folder], {folder}
    while pending:
        current = pending.pop()
        try:
            listing = fs.ls(current, detail=True)
        # Stores raise errors of every kind.
        except Exception as error:
            if current == folder:
                raise
            skipped.add_unreadable(fs.unstrip_protocol(current), f"cannot be listed: {_reason(error)}")
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
def _explained(name: str, action: str) -> Iterator[None]:
    """Every error of a store inside as an `InputError`: `name` cannot be `action`, and why."""
    try:
        yield
    except InputError:
        raise
    # Stores raise errors of every kind.
    except Exception as error:
        raise InputError(f"{name}: cannot be {action}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not error.strerror:
        return f"no response for {SILENT_SECONDS:g} s"
    # The error of a web address that was refused has the reason in its cause.
    reason = getattr(error, "strerror", None) or error.__cause__ or error
    if reason is error and isinstance(error, FileNotFoundError):
        reason = "it does not exist"
    return str(reason) or type(reason).__name__


def _fs(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url, **_web_options(url))
    except (ValueError, ImportError) as error:
        raise InputError(f"{url}: {error}") from error


def _web_options(url: str) -> dict[str, Any]:
    """For a web server, a limit on how long it may send nothing, instead of one on the time for a complete file."""
    if not _is_web(url):
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENT_SECONDS, sock_read=SILENT_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}
