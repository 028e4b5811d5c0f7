"""The entries of the compilation cache: each a signature and a compressed executable."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import jax.monitoring
from jax.experimental import serialize_executable

from spectra_jax.errors import CompilationCacheError
from spectra_jax.inference.compilation_cache.key import cache_key
from spectra_jax.inference.compilation_cache.permissions import make_private_directory, require_private
from spectra_jax.inference.compilation_cache.private_files import read_private_file, write_private_file
from spectra_jax.inference.compilation_cache.signing import SIGNATURE_BYTES, Signer

# A network compiled for a CPU takes about a megabyte, and a few times that before it is compressed.
MAX_ENTRIES = 64
MAX_ENTRY_BYTES = 64 * 2**20
MAX_EXECUTABLE_BYTES = 512 * 2**20


class CompilationCache:
    """Compiled networks in a directory. A failure to store or load one is reported in a line and changes no score.

    Args:
      directory: is created when it is needed. Only the user may write there: its entries are executables.
      report: takes a line for the user to read.
    """

    def __init__(self, directory: Path, report: Callable[[str], None]):
        self._directory = directory
        self._report = report
        self._signer = Signer(directory)

    def key(self, facts: str) -> str:
        """What a network is found by: see `spectra_jax.inference.compilation_cache.key.cache_key`."""
        return cache_key(facts)

    def find(self, key: str, devices: Sequence[jax.Device]) -> Callable[[], jax.stages.Compiled] | None:
        """Read the entry of this key.

        Args:
          key: from `key`.
          devices: to run it.

        Returns:
          A function that loads the executable or raises CompilationCacheError; None where there is no readable entry.
        """
        file = self._file(key)
        content = self._read(file)
        if content is None:
            return None

        def load() -> jax.stages.Compiled:
            try:
                executable, takes, returns = pickle.loads(content)
                return serialize_executable.deserialize_and_load(executable, takes, returns, devices[0].client, devices)
            except Exception as error:
                self._discard(file, error)
                raise CompilationCacheError from error

        return load

    def compile(self, key: str, lowered: jax.stages.Lowered, options: dict[str, str | bool]) -> jax.stages.Compiled:
        """Compile a network and store it under its key, before it runs: XLA cannot serialize some of what has run.

        An executable that JAX loaded from its own cache is not stored: XLA would serialize it without its code and
        without an error.
        """
        with _jax_cache_hits() as hits:
            compiled = lowered.compile(options)
        if not hits:
            self._store(key, compiled)
        return compiled

    def _read(self, file: Path) -> bytes | None:
        """The serialized executable in a file; None where it is missing, or is not to be used, which is reported."""
        try:
            require_private(self._directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._report(f"The compilation cache {self._directory} is not used: {error}")
            return None
        try:
            packed = self._signer.verify(file.name, read_private_file(file, MAX_ENTRY_BYTES))
            content = decompress(packed)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, zlib.error) as error:
            self._discard(file, error)
            return None
        # Marks it as recently used. The directory may be read-only.
        with suppress(OSError):
            os.utime(file)
        return content

    def _store(self, key: str, compiled: jax.stages.Compiled) -> None:
        try:
            # The executable, and the structures of the trees that it takes and returns.
            content = pickle.dumps(serialize_executable.serialize(compiled))
            packed = zlib.compress(content, level=1)
            if len(packed) > MAX_ENTRY_BYTES - SIGNATURE_BYTES or len(content) > MAX_EXECUTABLE_BYTES:
                raise ValueError(f"an executable of {len(content):,} bytes is larger than a cached one may be")
            make_private_directory(self._directory)
            require_private(self._directory)
            file = self._file(key)
            write_private_file(file, self._signer.sign(file.name, packed))
            self._remove_oldest()
        # Not every backend can serialize, and a failure to store must not cost a score.
        except Exception as error:
            self._report(f"Compilation cache {self._directory}: the compiled network could not be stored ({error})")

    def _file(self, key: str) -> Path:
        return self._directory / f"spectra-{key}.compiled"

    def _discard(self, file: Path, error: Exception) -> None:
        with suppress(OSError):
            file.unlink()
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        self._report(
            f"Compilation cache {self._directory}: the cached executable could not be loaded, so the network is "
            f"compiled again ({reason})"
        )

    def _remove_oldest(self) -> None:
        # Partial files, which a killed run leaves behind, count as well. Another run may remove the same files at the
        # same time, and the files of other users may not be removable.
        with suppress(OSError):
            files = [*self._directory.glob("spectra-*.compiled"), *self._directory.glob(".spectra-*.partial")]
            files.sort(key=lambda file: file.lstat().st_mtime)
            for file in files[:-MAX_ENTRIES]:
                file.unlink()


def decompress(packed: bytes) -> bytes:
    """The serialized executable of an entry.

    Raises:
      ValueError: it is cut short, or larger than MAX_EXECUTABLE_BYTES.
      zlib.error: it is not compressed data.
    """
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(packed, MAX_EXECUTABLE_BYTES)
    if not decompressor.eof:
        raise ValueError(f"it is cut short, or decompresses to more than {MAX_EXECUTABLE_BYTES:,} bytes")
    return content


@contextmanager
def _jax_cache_hits() -> Iterator[list[str]]:
    """Events of JAX that took an executable from its own cache inside."""
    hits: list[str] = []

    def note(event: str, **_: str | int) -> None:
        if event.endswith("/cache_hits"):
            hits.append(event)

    jax.monitoring.register_event_listener(note)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(note)
