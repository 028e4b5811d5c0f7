"""What the Hub client's cache has of a file, and removing one from it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spectra_jax.errors import HubError
from spectra_jax.hub.client import cache_directory
from spectra_jax.hub.names import Kind, is_sha256


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, in the cache.

    Attributes:
        path: `.../snapshots/<commit>/<file name>`.
        advertised_sha256: what the Hub states for it; None where it states nothing, as for small files.
    """

    path: Path
    advertised_sha256: str | None


@dataclass(frozen=True)
class Lookup:
    """What the cache knows of a file at a revision.

    Attributes:
        known: whether it knows anything.
        file: the file; None where nothing is known, or where it is known that the commit does not have this file.
    """

    known: bool
    file: HubFile | None = None


def snapshots(repo: str, kind: Kind) -> Path:
    """The folder in which the cache has a folder of files for each commit of a repository."""
    return cache_directory() / f"{kind}s--{repo.replace('/', '--')}" / "snapshots"


def look_up(repo: str, revision: str, filename: str, kind: Kind) -> Lookup:
    """Find a file in the cache.

    Raises:
        HubError: the cache cannot be read.
    """
    import huggingface_hub

    try:
        found = huggingface_hub.try_to_load_from_cache(repo, filename, revision=revision, repo_type=kind)
    except OSError as error:
        raise HubError(
            f"Cannot read the cache ({cache_directory()}): {error.strerror}. Fix its permissions, or set HF_HOME to "
            "another folder."
        ) from error
    if isinstance(found, str):
        path = Path(found)
        return Lookup(known=True, file=HubFile(path, sha256_of_link(path)))
    # The client also remembers that a commit does not have a file.
    return Lookup(known=found is huggingface_hub._CACHED_NO_EXIST)


def sha256_of_link(path: Path) -> str | None:
    """The sha256 under whose name the cache keeps the content of `path`; None if that name is not a sha256.

    `path` links to `blobs/<etag>`, and the etag of a large file is its sha256. Only this link is followed: the blob may
    itself link into a store that all repositories share, which names its files by another hash of the same length.
    """
    name = path.readlink().name if path.is_symlink() else ""
    return name if is_sha256(name) else None


def remove(path: Path) -> bool:
    """Remove a damaged cached file and everything that its links lead to inside the cache; False if that fails."""
    cache = cache_directory().resolve()
    try:
        # A file that a user keeps elsewhere and linked into the cache is theirs: only the link is removed.
        while path.parent.resolve().is_relative_to(cache):
            target = path.parent / path.readlink() if path.is_symlink() else None
            path.unlink(missing_ok=True)
            if target is None:
                break
            path = target
    except OSError:
        return False
    return True


def release(path: Path) -> bool:
    """Remove a cached file, and its content unless another commit or repository has that too; False if that fails.

    Args:
        path: `.../snapshots/<commit>/<file name>`.
    """
    cache = Path(os.path.abspath(cache_directory()))  # noqa: PTH100
    path = Path(os.path.abspath(path))  # noqa: PTH100
    repository = cache / path.relative_to(cache).parts[0]
    try:
        blob = _target(path)
        path.unlink(missing_ok=True)
        # Content that a user keeps elsewhere and linked into the cache is theirs.
        if blob is None or not blob.is_relative_to(cache) or _has_link(repository.glob("snapshots/**/*"), blob):
            return True
        stored = _target(blob)
        blob.unlink(missing_ok=True)
        if stored is not None and stored.is_relative_to(cache) and not _has_link(cache.glob("*/blobs/*"), stored):
            stored.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _target(path: Path) -> Path | None:
    """What a link leads to, by this one link; None if `path` is no link."""
    return Path(os.path.abspath(path.parent / path.readlink())) if path.is_symlink() else None  # noqa: PTH100


def _has_link(paths: Iterable[Path], target: Path) -> bool:
    """Whether one of the paths is a link to `target`."""
    return any(_target(path) == target for path in paths)
