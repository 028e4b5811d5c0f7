"""A folder of files that appear whole or not at all, here or wherever fsspec reaches."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from spectra_jax.atomic import atomic_file
from spectra_jax.sources.remote import is_url
from spectra_jax.trials import InputError


class Store:
    """Files by their names below `root`, a path or URL.

    Raises:
      InputError: a URL that fsspec does not know.
    """

    def __init__(self, root: str | Path):
        self.root = str(root)
        self._fs: Any = None
        if is_url(self.root):
            import fsspec

            try:
                self._fs, self._base = fsspec.core.url_to_fs(self.root)
            except (ValueError, ImportError) as error:
                raise InputError(f"{root}: {error}") from error

    def path(self, name: str) -> str:
        return posixpath.join(self.root, name) if self._fs else str(self._here(name))

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write that is there under its name once it is whole.

        Raises:
          OSError: the disk or the store said no; nothing of the name was changed.
        """
        if self._fs is None:
            path = self._here(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                yield file
            return
        # Stores show an object once its upload is complete. Left by an exception, it is not completed.
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
        """A file to read.

        Raises:
          FileNotFoundError: it is not there.
        """
        opened = self._fs.open(posixpath.join(self._base, name), "rb") if self._fs else self._here(name).open("rb")
        with opened as file:
            yield file

    def _here(self, name: str) -> Path:
        return Path(self.root) / name

    def sweep(self, name: str) -> None:
        """Remove what writers of `name` that were killed left behind. Nobody else may be writing it."""
        if self._fs is None:
            here = self._here(name)
            for left in here.parent.glob(f".{here.name}.*.partial"):
                left.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder below the root, sorted; none where there is no such folder."""
        if self._fs is None:
            here = self._here(folder)
            return sorted(path.name for path in here.iterdir() if path.is_file()) if here.is_dir() else []
        place = posixpath.join(self._base, folder)
        self._fs.invalidate_cache()
        try:
            return sorted(posixpath.basename(name) for name in self._fs.ls(place, detail=False))
        except FileNotFoundError:
            return []
