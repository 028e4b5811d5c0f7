"""A folder whose files are written atomically: on this machine, or at any URL that fsspec knows."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from spectra_jax.data.sources.remote import is_url
from spectra_jax.errors import InputError
from spectra_jax.files.atomic import atomic_file, is_partial, sweep


class Store:
    """Files by their names below `root`, a path or URL.

    Raises:
      InputError: a URL that fsspec does not know.
    """

    def __init__(self, root: str | Path):
        self.root = str(root)
        self._base = self.root
        self._fs: Any = None
        if is_url(self.root):
            import fsspec

            try:
                self._fs, self._base = fsspec.core.url_to_fs(self.root)
            except (ValueError, ImportError) as error:
                raise InputError(f"{root}: {error}") from error
            # fsspec's own way of writing a local file is not atomic.
            if isinstance(self._fs, fsspec.implementations.local.LocalFileSystem):
                self._fs = None

    def path(self, name: str) -> str:
        """The path or URL of a file, for messages."""
        return posixpath.join(self.root, name) if self._fs else str(self._local_path(name))

    @contextmanager
    def writing(self, name: str, *, replace: bool = True) -> Iterator[IO[bytes]]:
        """Open a file to write. It takes its name when it is complete.

        Args:
          name: of the file.
          replace: whether a file of that name is replaced. At a URL, where several writers write the same new file at
            the same time, the last one replaces the others' all the same.

        Raises:
          FileExistsError: there is such a file, and it is not to be replaced.
          OSError: the file cannot be written; one that had the name before is unchanged.
        """
        if self._fs is None:
            path = self._local_path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, replace=replace) as file:
                yield file
            return
        self._fs.invalidate_cache()
        if not replace and self._fs.exists(posixpath.join(self._base, name)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path(name))
        # An object becomes visible when its upload is complete. After an exception the upload is discarded.
        file = self._fs.open(posixpath.join(self._base, name), "wb")
        try:
            yield file
        except BaseException:
            if hasattr(file, "discard"):
                file.discard()
            raise
        file.close()

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file to read.

        Raises:
          FileNotFoundError: no such file.
        """
        opened = (
            self._fs.open(posixpath.join(self._base, name), "rb") if self._fs else self._local_path(name).open("rb")
        )
        with opened as file:
            yield file

    def _local_path(self, name: str) -> Path:
        return Path(self._base) / name

    def read(self, name: str) -> bytes:
        """Read a file's bytes.

        Raises:
          FileNotFoundError: no such file.
        """
        if self._fs:
            self._fs.invalidate_cache()
        with self.reading(name) as file:
            return file.read()

    def write(self, name: str, data: bytes | bytearray, *, replace: bool = True) -> None:
        """Write a file's bytes; see `writing`."""
        with self.writing(name, replace=replace) as file:
            file.write(data)

    def sweep(self, folder: str = "") -> None:
        """Remove the unfinished files of killed writers from a folder below the root."""
        if self._fs is None:
            sweep(self._local_path(folder))

    def names(self, folder: str = "") -> list[str]:
        """The sorted names of the files in a folder below the root; none where there is no such folder.

        Files that are still being written are left out.
        """
        if self._fs is None:
            directory = self._local_path(folder)
            found = [path for path in directory.iterdir() if path.is_file()] if directory.is_dir() else []
            return sorted(path.name for path in found if not is_partial(path.name))
        path = posixpath.join(self._base, folder).rstrip("/")
        self._fs.invalidate_cache()
        try:
            listed = [info for info in self._fs.ls(path, detail=True) if info["type"] != "directory"]
        except FileNotFoundError:
            return []
        # Some stores list the folder itself as an object.
        return sorted(posixpath.basename(info["name"]) for info in listed if info["name"].rstrip("/") != path)
