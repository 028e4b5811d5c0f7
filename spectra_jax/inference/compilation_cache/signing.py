"""Signatures of cache entries: nothing is unpickled that was not signed with the directory's own key."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from spectra_jax.inference.compilation_cache.private_files import read_private_file, write_private_file

KEY_FILE = "spectra-key"
SIGNATURE_BYTES = hashlib.sha256().digest_size
_KEY_BYTES = 32


class Signer:
    """Signs and verifies the entries of one cache directory (HMAC-SHA256).

    A signature covers the entry's name as well as its content, so that no entry can replace another.

    Args:
      directory: of the cache. Its key is read, or created, when it is first needed.
    """

    def __init__(self, directory: Path):
        self._directory = directory

    def sign(self, name: str, content: bytes) -> bytes:
        """`content` with its signature in front."""
        return self._signature(name, content) + content

    def verify(self, name: str, entry: bytes) -> bytes:
        """The content of a signed entry.

        Raises:
          ValueError: it was not signed under this name with this directory's key.
          OSError: the key cannot be read or created.
        """
        signature, content = entry[:SIGNATURE_BYTES], entry[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(name, content)):
            raise ValueError("its signature is wrong: it is damaged, or was not written with this directory's key")
        return content

    def _signature(self, name: str, content: bytes) -> bytes:
        return hmac.digest(self._key, name.encode() + b"\0" + content, "sha256")

    @cached_property
    def _key(self) -> bytes:
        return signing_key(self._directory)


def signing_key(directory: Path) -> bytes:
    """The random key of a cache directory, created where there is none. Two processes that create one use the first.

    A key of another length, or one that others may read or write, is replaced; what it signed is then compiled again.

    Raises:
      OSError: it cannot be created.
    """
    file = directory / KEY_FILE
    for _ in range(3):
        try:
            key = read_private_file(file, _KEY_BYTES, readable_by_others=False)
            if len(key) == _KEY_BYTES:
                return key
            file.unlink()
        except FileNotFoundError:
            pass
        except (OSError, ValueError):
            file.unlink()
        with suppress(FileExistsError):
            write_private_file(file, secrets.token_bytes(_KEY_BYTES), replace=False)
    raise OSError(f"{file} cannot be created")
