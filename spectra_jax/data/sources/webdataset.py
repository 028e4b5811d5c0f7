"""Tar shards in WebDataset's layout: the members of one sample share their name up to the first dot of its last part.

    000001.flac  000001.json      a clip, and what is known of it: "utterance_id", "label"
    speaker/7.wav                 a clip alone

Shards are given by a name, a pattern, or a range such as `speech-{0000..0099}.tar`, as paths or URLs. A sample's id is
what its JSON says, or its name: the last part of it, or with `--id path` all of it. Clips are scored in the order they
have in the file; a sample's JSON may be anywhere in it. Each shard is read to its end before anything is scored, since
one damaged header would otherwise hide all members after it. Compressed shards (`.tar.gz`, `.tgz`) take longer to
resume in the middle of.
"""

from __future__ import annotations

import itertools
import lzma
import os
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from spectra_jax.data.sources import remote
from spectra_jax.data.sources.files import AUDIO_SUFFIXES, KNOWN, IdRule, matching
from spectra_jax.data.sources.source import LeftOut, Source
from spectra_jax.data.text import json_object, parse_label
from spectra_jax.data.trial import MAX_CLIP_BYTES, Trial
from spectra_jax.errors import InputError
from spectra_jax.messages import printable

_NAME = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
# Of a sample's JSON, and of a header with long names, which tarfile reads whole.
_LARGEST_TEXT = 1 << 20
_READ = 1 << 20
# What tar pads a file with is ten kilobytes unless asked for more.
_LONGEST_END = 1 << 26


def is_shards(given: str) -> bool:
    """Whether an input names tar shards."""
    return _NAME.search(given.partition("?")[0]) is not None


@dataclass
class _Shard:
    """What a pass over a shard's headers found.

    Attributes:
      clips: key and member's name of each, in the order of the file.
      known: what JSON says, by key.
      in_order: whether each sample's members follow each other.
    """

    clips: list[tuple[str, str]] = field(default_factory=list)
    known: dict[str, dict[str, object]] = field(default_factory=dict)
    in_order: bool = True


@dataclass(frozen=True)
class Shards(Source):
    """The samples of one or many shards."""

    name: str
    ids: IdRule
    max_clip_bytes: int = MAX_CLIP_BYTES
    # Of each shard that was listed: how many clips it has, and whether it is in order.
    _listed: dict[str, tuple[int, bool]] = field(default_factory=dict, compare=False, repr=False)

    def listed(self, left_out: LeftOut | None = None) -> Iterator[Trial]:
        total = 0
        left_out = LeftOut() if left_out is None else left_out
        for shard in self._shards(left_out):
            found = _examine(shard, self.max_clip_bytes, left_out)
            self._listed[shard] = len(found.clips), found.in_order
            total += len(found.clips)
            stamp = remote.stamp(shard)
            for key, name in found.clips:
                yield self._trial(shard, key, name, found.known.get(key, {}), stamp)
        if not total:
            others = "".join(f"; {line}" for line in left_out.lines())
            raise InputError(f"{self.name}: no audio in it{others} ({KNOWN})")

    def from_(self, start: int) -> Iterator[Trial]:
        for shard in self._shards(LeftOut()):
            number, in_order = self._listed.get(shard, (None, False))
            if number is not None and number <= start:
                start -= number
                continue
            # Where a sample's JSON comes with it, it is read when the clip is.
            found = None if in_order else _examine(shard, self.max_clip_bytes, LeftOut())
            passed = 0
            for trial in self._with_clips(shard, found, start):
                passed += 1
                yield trial
            start = max(start - (passed if number is None else number), 0)

    def _with_clips(self, shard: str, found: _Shard | None, start: int) -> Iterator[Trial]:
        """The trials of a shard from its clip `start` on; those before without their bytes."""
        stamp, index = remote.stamp(shard), 0
        with _archive(shard, self.max_clip_bytes) as tar:
            members = (member for member in tar.members() if _kind(member) in ("clip", "json"))
            for key, group in itertools.groupby(members, lambda member: _key(member.name)):
                known = {} if found is None else found.known.get(key, {})
                clips: list[tuple[str, bytes | None, str | None]] = []
                for member in group:
                    if _kind(member) == "clip" and index >= start:
                        clips.append((member.name, *tar.clip(member)))
                    elif _kind(member) == "json" and found is None:
                        known |= tar.json(member)
                    index += _kind(member) == "clip"
                for name, content, problem in clips:
                    yield self._trial(shard, key, name, known, stamp, content, problem)

    def _trial(
        self,
        shard: str,
        key: str,
        clip: str,
        known: dict[str, object],
        stamp: str | None,
        content: bytes | None = None,
        problem: str | None = None,
    ) -> Trial:
        name, label = known.get("utterance_id"), known.get("label")
        if not isinstance(name, str | None) or not isinstance(label, str | None):
            raise InputError(
                f"{shard}: {printable(key)}: utterance_id {name!r} and label {label!r} in its JSON: both have to be "
                "text"
            )
        return Trial(
            name or (key if self.ids == "path" else posixpath.basename(key)),
            f"{shard}/{clip}",
            parse_label(f"{shard}: {printable(key)}", label or ""),
            content,
            stamp=stamp,
            problem=problem,
            fallbacks=() if name else (key, f"{shard}/{key}"),
        )

    def _shards(self, left_out: LeftOut) -> list[str]:
        found = _expanded(self.name, left_out)
        if not found:
            others = "".join(f"; {line}" for line in left_out.lines())
            raise InputError(f"{self.name}: no such shard{others}")
        return found


def _expanded(given: str, left_out: LeftOut) -> list[str]:
    """The shards that a name, pattern or range stands for, in order."""
    if span := _RANGE.search(given):
        first, last = span[1], span[2]
        numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
        names = (given[: span.start()] + number + given[span.end() :] for number in numbers)
        return [one for name in names for one in _expanded(name, left_out)]
    if not remote.is_pattern(given) or os.path.exists(given):  # noqa: PTH110
        return [given]
    if remote.is_url(given):
        return remote.glob(given)
    return sorted(map(str, matching(given, left_out, lambda path: is_shards(path.name))))


def _examine(shard: str, max_clip_bytes: int, left_out: LeftOut) -> _Shard:
    """One pass over a whole shard.

    Raises:
      InputError: it is damaged, cut short, or has several clips or contradicting JSON of one sample.
    """
    found = _Shard()
    names: dict[str, str] = {}
    texts: dict[str, str] = {}
    seen, last = set[str](), ""
    with _archive(shard, max_clip_bytes) as tar:
        for member in tar.members():
            kind, key, path = _kind(member), _key(member.name), f"{shard}/{member.name}"
            shown = printable(path)
            if kind == "folder":
                continue
            if kind not in ("clip", "json"):
                left_out.add(path, kind)
                continue
            if key != last and key in seen:
                found.in_order = False
            seen.add(key)
            last = key
            if kind == "json":
                # Of all that it says, these stay in memory.
                known = {name: value for name, value in tar.json(member).items() if name in ("utterance_id", "label")}
                before = found.known.setdefault(key, {})
                if any(before.get(name, value) != value for name, value in known.items()):
                    raise InputError(f"{shown}: says another utterance_id or label than {printable(texts[key])}")
                before |= known
                texts[key] = member.name
            elif key in names:
                raise InputError(f"{shown}: several clips of one sample: {printable(names[key])} is another")
            else:
                names[key] = member.name
                found.clips.append((key, member.name))
    for key in texts.keys() - names.keys():
        left_out.add(f"{shard}/{texts[key]}")
    return found


def _key(name: str) -> str:
    folder, base = posixpath.split(name.removeprefix("./"))
    return posixpath.join(folder, base.partition(".")[0])


def _kind(member: tarfile.TarInfo) -> str | None:
    """What a member is: "clip" and "json" are of use, "folder" is nothing; else what to count it as."""
    if member.isdir():
        return "folder"
    if posixpath.basename(member.name).startswith("."):
        return "hidden"
    if not member.isfile():
        return "link" if member.islnk() or member.issym() else "special file"
    suffix = PurePosixPath(member.name).suffix.lower()
    return "clip" if suffix in AUDIO_SUFFIXES else "json" if suffix == ".json" else None


class _DamagedError(Exception):
    """What is wrong with a tar file, where tarfile itself would end without a word or read on without a limit."""


_LONG_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)


class _Member(tarfile.TarInfo):
    """A header that is read strictly: tarfile takes any unreadable one but the first for the end of the file."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            _require_end(tar)
            raise
        except tarfile.HeaderError as error:
            # At the very start it is no tar file, or one in another compression.
            if tar.offset == 0:
                raise
            reason = f"the header at byte {tar.offset:,} is damaged ({error})"
            if isinstance(error, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
                reason = "no blocks of zeros at its end, which a complete tar file has: cut short"
            raise _DamagedError(reason) from error

    def _proc_member(self, tar: tarfile.TarFile) -> _Member:
        if self.size < 0 or (self.type in _LONG_HEADERS and self.size > _LARGEST_TEXT):
            raise _DamagedError(f"the header at byte {self.offset:,} states a size of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


def _require_end(tar: tarfile.TarFile) -> None:
    """See that nothing but zeros follows a block of zeros."""
    file, passed = tar.fileobj, 0
    assert file is not None
    while block := file.read(_READ):
        passed += len(block)
        if passed > _LONGEST_END:
            raise _DamagedError(f"more than {_LONGEST_END:,} bytes of zeros after its last member")
        if block.count(0) < len(block):
            raise _DamagedError(
                "more follows after its end: several tar files in one? Join them with `tar --concatenate`, or give "
                "them one by one"
            )


@dataclass(frozen=True)
class _Archive:
    """A shard that is open: its members in order, and their content before the next one is asked for."""

    shard: str
    tar: tarfile.TarFile
    max_clip_bytes: int
    compressed: bool

    def members(self) -> Iterator[tarfile.TarInfo]:
        before = -1
        while (member := self.tar.next()) is not None:
            # tarfile keeps every member that it has seen.
            self.tar.members.clear()  # type: ignore[attr-defined]
            if member.size < 0 or self.tar.offset <= before:
                raise _DamagedError(f"{printable(member.name)} states a size of {member.size:,} bytes")
            before = self.tar.offset
            if self.compressed and member.size > self.max_clip_bytes:
                # To pass over it is to decompress it.
                raise InputError(f"{self.shard}/{printable(self._too_large(member))}")
            yield member

    def clip(self, member: tarfile.TarInfo) -> tuple[bytes | None, str | None]:
        """A clip's bytes, or what is wrong with it."""
        if member.size > self.max_clip_bytes:
            return None, f"{self.shard}/{self._too_large(member)}"
        return self._content(member), None

    def json(self, member: tarfile.TarInfo) -> dict[str, object]:
        name = printable(f"{self.shard}/{member.name}")
        if member.size > _LARGEST_TEXT:
            raise InputError(f"{name}: {member.size:,} bytes; the JSON of a sample has at most {_LARGEST_TEXT:,}")
        return json_object(name, self._content(member))

    def _content(self, member: tarfile.TarInfo) -> bytes:
        file = self.tar.extractfile(member)
        assert file is not None, "only plain files are read here"
        return file.read()

    def _too_large(self, member: tarfile.TarInfo) -> str:
        return (
            f"{member.name}: {member.size:,} bytes, more than the {self.max_clip_bytes:,} that are read into memory; "
            "--max-clip-bytes sets the limit"
        )


@contextmanager
def _archive(shard: str, max_clip_bytes: int) -> Iterator[_Archive]:
    """Open a shard.

    Raises:
      InputError: it cannot be opened; while it is read, it is damaged or cut short.
    """
    with remote.opened(shard) as file:
        try:
            try:
                tar = tarfile.open(fileobj=file, tarinfo=_Member)  # noqa: SIM115
            except tarfile.ReadError as error:
                # It says of each compression why it is not that.
                raise InputError(f"{shard}: not a tar file, or damaged at its start") from error
            with tar:
                yield _Archive(shard, tar, max_clip_bytes, tar.fileobj is not file)
        # Of the latter two, the store's, `opened` makes a sentence.
        except (InputError, TimeoutError, ConnectionError):
            raise
        except _DamagedError as error:
            raise InputError(f"{shard}: damaged tar file: {error}") from error
        # EOFError and the errors of zlib and lzma: compressed shards that were cut short or damaged. ValueError: no
        # number in a header where one belongs.
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError) as error:
            raise InputError(f"{shard}: damaged tar file, or cut short: {error}") from error
