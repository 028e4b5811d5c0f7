"""Tar files read strictly: damage is an error, where Python's tarfile would take it for the end of the file."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spectra_jax.data.sources import remote
from spectra_jax.data.text import parse_object
from spectra_jax.errors import InputError, SpectraError
from spectra_jax.messages import printable

# In bytes: of a sample's JSON, and of a header with a long name, which tarfile reads at once.
_LARGEST_TEXT = 1 << 20
_READ = 1 << 20
# In bytes: of the zeros at the end. tar pads to ten kilobytes, or more where larger records are requested.
_LONGEST_PADDING = 1 << 26


@dataclass(frozen=True)
class TarShard:
    """An open tar file: its members in order, and the content of each before the next one is requested.

    Attributes:
      shard: its path or URL, for messages.
      tar: as tarfile opened it.
      max_clip_bytes: the largest clip that is read into memory.
      compressed: whether passing over a member takes decompressing it.
    """

    shard: str
    tar: tarfile.TarFile
    max_clip_bytes: int
    compressed: bool

    def members(self) -> Iterator[tarfile.TarInfo]:
        before = -1
        while (member := self.tar.next()) is not None:
            # tarfile would keep every member that it has read.
            self.tar.members.clear()  # type: ignore[attr-defined]
            if member.size < 0 or self.tar.offset <= before:
                raise _DamagedTarError(f"{printable(member.name)} states a size of {member.size:,} bytes")
            before = self.tar.offset
            if self.compressed and member.size > self.max_clip_bytes:
                raise InputError(f"{self.shard}/{printable(self._too_large(member))}")
            yield member

    def clip(self, member: tarfile.TarInfo) -> tuple[bytes | None, str | None]:
        """A clip's bytes, or else why they are not read."""
        if member.size > self.max_clip_bytes:
            return None, f"{self.shard}/{self._too_large(member)}"
        return self._content(member), None

    def json(self, member: tarfile.TarInfo) -> dict[str, object]:
        """The JSON object in a member."""
        name = printable(f"{self.shard}/{member.name}")
        if member.size > _LARGEST_TEXT:
            raise InputError(f"{name}: {member.size:,} bytes; the JSON of a sample has at most {_LARGEST_TEXT:,}")
        return parse_object(name, self._content(member))

    def _content(self, member: tarfile.TarInfo) -> bytes:
        file = self.tar.extractfile(member)
        assert file is not None, "only members that are files have content"
        return file.read()

    def _too_large(self, member: tarfile.TarInfo) -> str:
        return (
            f"{member.name}: {member.size:,} bytes, more than the {self.max_clip_bytes:,} that are read into memory; "
            "--max-clip-bytes sets the limit"
        )


@contextmanager
def open_tar(shard: str, max_clip_bytes: int) -> Iterator[TarShard]:
    """Open a tar file by its path or URL.

    Raises:
      InputError: it cannot be opened; or, while it is read, it is damaged or cut short.
    """
    with remote.opened(shard) as file:
        try:
            try:
                tar = tarfile.open(fileobj=file, tarinfo=_StrictMember)  # noqa: SIM115
            except tarfile.ReadError as error:
                # Its message states for each compression why the file is not that.
                raise InputError(f"{shard}: not a tar file, or damaged at its start") from error
            with tar:
                yield TarShard(shard, tar, max_clip_bytes, tar.fileobj is not file)
        # `opened` explains the latter two, which come from the store.
        except (InputError, TimeoutError, ConnectionError):
            raise
        except _DamagedTarError as error:
            raise InputError(f"{shard}: damaged tar file: {error}") from error
        # EOFError and the errors of zlib and lzma: compressed shards, cut short or damaged. ValueError: a header in
        # which a number is expected and is none.
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError) as error:
            raise InputError(f"{shard}: damaged tar file, or cut short: {error}") from error


class _DamagedTarError(SpectraError):
    """Damage that tarfile itself would take for the end of the file, or read on from without a limit."""


_LONG_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)


class _StrictMember(tarfile.TarInfo):
    """A header that is read strictly: tarfile takes any unreadable one but the first for the end of the file."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _StrictMember:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            _require_end(tar)
            raise
        except tarfile.HeaderError as error:
            # At the start of the file: not a tar file, or one in another compression, which tarfile tries next.
            if tar.offset == 0:
                raise
            reason = f"the header at byte {tar.offset:,} is damaged ({error})"
            if isinstance(error, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
                reason = "no blocks of zeros at its end, which a complete tar file has: cut short"
            raise _DamagedTarError(reason) from error

    def _proc_member(self, tar: tarfile.TarFile) -> _StrictMember:
        if self.size < 0 or (self.type in _LONG_HEADERS and self.size > _LARGEST_TEXT):
            raise _DamagedTarError(f"the header at byte {self.offset:,} states a size of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


def _require_end(tar: tarfile.TarFile) -> None:
    """Check that nothing but zeros follows a block of zeros."""
    file, passed = tar.fileobj, 0
    assert file is not None
    while block := file.read(_READ):
        passed += len(block)
        if passed > _LONGEST_PADDING:
            raise _DamagedTarError(f"more than {_LONGEST_PADDING:,} bytes of zeros after its last member")
        if block.count(0) < len(block):
            raise _DamagedTarError(
                "more follows after its end: several tar files in one? Join them with `tar --concatenate`, or give "
                "them one by one"
            )
