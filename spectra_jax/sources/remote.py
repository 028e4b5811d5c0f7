"""URLs wherever a path goes: what fsspec knows (s3, gs, hf, http, file and others), and local files by the same calls.

fsspec needs a package of its own for each kind of store: s3fs for s3://, gcsfs for gs://, aiohttp for http://.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any

from spectra_jax.sources.files import KNOWN, IdRule, id_of, is_audio
from spectra_jax.sources.source import Source, stamp_of
from spectra_jax.trials import InputError, Trial

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
      InputError: it cannot be opened.
    """
    with _said_of(name, "read"):
        file = _fs(name)[0].open(name, "rb") if is_url(name) else Path(name).open("rb")  # noqa: SIM115
    with file:
        yield file


def fetch(url: str) -> bytes:
    """All bytes of a URL.

    Raises:
      InputError: it is not there, the store does not give it, or its kind is not known.
    """
    with _said_of(url, "read"), opened(url) as file:
        return file.read()


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

    def listed(self) -> Iterator[Trial]:
        return self.from_(0)

    def from_(self, start: int) -> Iterator[Trial]:
        for url, version in islice(self._urls(), start, None):
            yield Trial(id_of(path_of(url), self.ids), url, stamp=version)

    def _urls(self) -> Iterator[tuple[str, str | None]]:
        """URLs and their stamps."""
        fs, path = _fs(self.name)
        if not is_pattern(path) and ((_is_web(path) and "?" in path) or is_audio(path_of(path))):
            yield self.name, stamp(self.name)
            return
        with _said_of(self.name, "listed"):
            infos = fs.glob(path, detail=True) if is_pattern(path) else fs.find(path, detail=True)
        found = list(infos)
        # A file that is given by its own name is taken whatever its extension.
        audio = found if found == [path] else sorted(one for one in found if is_audio(path_of(one)))
        if not audio:
            raise InputError(f"{self.name}: no audio files there ({KNOWN})")
        for one in audio:
            yield str(fs.unstrip_protocol(one)), _stamp_in(infos[one])


@contextmanager
def _said_of(name: str, what: str) -> Iterator[None]:
    """Whatever goes wrong with a file or a store, as an error for people."""
    try:
        yield
    except InputError:
        raise
    # Stores tell of what went wrong by errors of every kind.
    except Exception as error:
        # That of a web address that was refused hides why in its cause.
        reason = getattr(error, "strerror", None) or error.__cause__ or error
        if reason is error and isinstance(error, FileNotFoundError):
            reason = "it is not there"
        raise InputError(f"{name}: cannot be {what}: {str(reason) or type(reason).__name__}") from error


def _fs(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(f"{url}: {error}") from error
