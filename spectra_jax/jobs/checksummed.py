"""Parquet files with a checksum of all their bytes in the footer, which is checked at each reading.

Parquet's own checksums are optional and do not cover the footer, where one flipped bit can change scores unnoticed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from spectra_jax.errors import UnusableFileError
from spectra_jax.jobs.store import Store

_MARK = b"sha256 of this file with 64 zeros for these digits: "
_ZEROS = b"0" * 64
_RUN = b"run"


def encode(tables: Iterable[pa.Table], schema: pa.Schema, run: str, **metadata: str) -> bytearray:
    """Encode tables as a parquet file of the run with the digest `run`, each table as one row group."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema.with_metadata({"run": run, **metadata}), compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.cast(schema))
        writer.add_key_value_metadata({"checksum": (_MARK + _ZEROS).decode()})
    data = bytearray(buffer.getbuffer())
    start = data.rindex(_MARK + _ZEROS) + len(_MARK)
    data[start : start + len(_ZEROS)] = hashlib.sha256(data).hexdigest().encode()
    return data


def read(store: Store, name: str, run: str | None = None) -> pq.ParquetFile:
    """Read a file that `encode` wrote, and check it.

    Args:
      store: holds the file.
      name: of the file.
      run: digest of the run that the file has to belong to; None for any.

    Raises:
      FileNotFoundError: no such file.
      UnusableFileError: the bytes do not match the checksum, or the file belongs to another run.
    """
    data = store.read(name)
    path = store.path(name)
    start = data.rfind(_MARK) + len(_MARK)
    if start < len(_MARK):
        raise UnusableFileError(f"{path}: has no checksum: it is damaged, or was written by an earlier version")
    stop = start + len(_ZEROS)
    digest = hashlib.sha256(memoryview(data)[:start])
    digest.update(_ZEROS)
    digest.update(memoryview(data)[stop:])
    if digest.hexdigest().encode() != data[start:stop]:
        raise UnusableFileError(f"{path}: is damaged: its bytes do not match its checksum")
    file = pq.ParquetFile(pa.BufferReader(data))
    if run is not None and file.schema_arrow.metadata[_RUN] != run.encode():
        raise UnusableFileError(f"{path}: belongs to another run")
    return file
