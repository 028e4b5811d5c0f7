"""URLs wherever a path goes: what fsspec knows (s3, gs, hf, http, file and others), and local files by the same calls.

fsspec needs a package of its own for each kind of store: s3fs for s3://, gcsfs for gs://, aiohttp for http://.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from spectra_jax.sources.files import KNOWN, IdRule, id_of, is_audio
from spectra_jax.sources.source import Source
from spectra_jax.trials import InputError, Trial

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(text: object) -> bool:
    return isinstance(text, str) and _URL.match(text) is not None


def suffix(name: str) -> str:
    """A path's or URL's extension, in lower case."""
    return PurePosixPath(name.partition("?")[0] if is_url(name) else name).suffix.lower()


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
    try:
        file = _fs(name)[0].open(name, "rb") if is_url(name) else Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    with file:
        yield file


def fetch(url: str) -> bytes:
    """All bytes of a URL.

    Raises:
      OSError: whatever the store says; `InputError` where its kind is not known.
    """
    with opened(url) as file:
        return file.read()


def glob(pattern: str) -> list[str]:
    """The URLs that a pattern matches, sorted; none where the store does not say."""
    fs, path = _fs(pattern)
    with suppress(OSError, NotImplementedError):
        return sorted(str(fs.unstrip_protocol(one)) for one in fs.glob(path))
    return []


@dataclass(frozen=True)
class RemoteFiles(Source):
    """A file, folder or pattern in a store."""

    name: str
    ids: IdRule

    def listed(self) -> Iterator[Trial]:
        return self.from_(0)

    def from_(self, start: int) -> Iterator[Trial]:
        return (Trial(id_of(PurePosixPath(url), self.ids), url) for url in islice(self._urls(), start, None))

    def _urls(self) -> Iterator[str]:
        fs, path = _fs(self.name)
        try:
            if any(mark in path for mark in "*?["):
                found = fs.glob(path)
            elif is_audio(PurePosixPath(path)):
                found = [path]
            else:
                found = fs.find(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name}: cannot be listed: {error}") from error
        audio = sorted(one for one in found if is_audio(PurePosixPath(one)))
        if not audio:
            raise InputError(f"{self.name}: no audio files there ({KNOWN})")
        return (str(fs.unstrip_protocol(one)) for one in audio)


def _fs(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(f"{url}: {error}") from error
