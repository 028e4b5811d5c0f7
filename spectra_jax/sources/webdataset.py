"""Tar shards in WebDataset's layout: the members of one sample share their name up to the first dot of its last part.

    000001.flac  000001.json      a clip, and what is known of it: "utterance_id", "label"
    speaker/7.wav                 a clip alone

Shards are given by a name, a pattern, or a range such as `speech-{0000..0099}.tar`, as paths or URLs. A sample's id is
what its JSON says, or its name: the last part of it, or with `--id path` all of it. Members are read in the order they
have in the file; compressed shards (`.tar.gz`, `.tgz`) take longer to go on in the middle of.
"""

from __future__ import annotations

import glob
import itertools
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from spectra_jax.sources import remote
from spectra_jax.sources.files import AUDIO_SUFFIXES, KNOWN, IdRule
from spectra_jax.sources.source import Source
from spectra_jax.trials import InputError, Trial, json_object, parse_label

_NAME = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LARGEST_JSON = 1 << 20


def is_shards(given: str) -> bool:
    """Whether an input names tar shards."""
    return _NAME.search(given.partition("?")[0]) is not None


@dataclass(frozen=True)
class Shards(Source):
    """The samples of one or many shards."""

    name: str
    ids: IdRule

    def listed(self) -> Iterator[Trial]:
        return self._trials(clips_from=None)

    def from_(self, start: int) -> Iterator[Trial]:
        return itertools.islice(self._trials(clips_from=start), start, None)

    def _trials(self, *, clips_from: int | None) -> Iterator[Trial]:
        """All trials, those from the place `clips_from` on with their clips."""
        place = 0
        for shard in self._shards():
            stamp = remote.stamp(shard)
            for key, members, tar in _samples(shard):
                clip = next((member for member in members if _is_clip(member)), None)
                if clip is not None:
                    with_clip = clips_from is not None and place >= clips_from
                    trial = self._trial(f"{shard}: {key}", key, members, clip, tar, with_clip)
                    yield replace(trial, stamp=stamp)
                    place += 1
        if not place:
            raise InputError(f"{self.name}: no audio in it ({KNOWN})")

    def _trial(
        self,
        place: str,
        key: str,
        members: list[tarfile.TarInfo],
        clip: tarfile.TarInfo,
        tar: tarfile.TarFile,
        with_clip: bool,
    ) -> Trial:
        if sum(map(_is_clip, members)) > 1:
            raise InputError(f"{place}: several clips of one sample: {', '.join(member.name for member in members)}")
        known: dict[str, object] = {}
        for member in members:
            if member.name.lower().endswith(".json") and member.size <= _LARGEST_JSON:
                known = json_object(f"{place.partition(': ')[0]}/{member.name}", _content(tar, member))
        name, label = known.get("utterance_id"), known.get("label")
        if not isinstance(name, str | None) or not isinstance(label, str | None):
            raise InputError(f"{place}: utterance_id {name!r} and label {label!r} of its JSON are to be text")
        return Trial(
            name or (key if self.ids == "path" else posixpath.basename(key)),
            f"{place.partition(': ')[0]}/{clip.name}",
            parse_label(place, label or ""),
            _content(tar, clip) if with_clip else None,
        )

    def _shards(self) -> Iterator[str]:
        found = _expanded(self.name)
        if not found:
            raise InputError(f"{self.name}: no such shard")
        yield from found


def _expanded(given: str) -> list[str]:
    """The shards that a name, pattern or range stands for, in order."""
    if span := _RANGE.search(given):
        first, last = span[1], span[2]
        numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
        return [one for number in numbers for one in _expanded(given[: span.start()] + number + given[span.end() :])]
    if remote.is_pattern(given):
        return remote.glob(given) if remote.is_url(given) else sorted(glob.glob(given, recursive=True))  # noqa: PTH207
    return [given]


def _samples(shard: str) -> Iterator[tuple[str, list[tarfile.TarInfo], tarfile.TarFile]]:
    """Each sample's key and members, and the shard they are to be read from before the next one is asked for."""
    with remote.opened(shard) as file:
        try:
            with tarfile.open(fileobj=file) as tar:
                for key, members in itertools.groupby(_members(tar), lambda member: _key(member.name)):
                    yield key, list(members), tar
        # EOFError, zlib's error: compressed shards that were cut short or damaged.
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise InputError(f"{shard}: no readable tar file, or cut short: {error}") from error


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        # tarfile keeps every member that it has seen.
        tar.members.clear()  # type: ignore[attr-defined]
        if member.isfile() and not posixpath.basename(member.name).startswith("."):
            yield member


def _key(name: str) -> str:
    folder, base = posixpath.split(name.removeprefix("./"))
    return posixpath.join(folder, base.partition(".")[0])


def _is_clip(member: tarfile.TarInfo) -> bool:
    return PurePosixPath(member.name).suffix.lower() in AUDIO_SUFFIXES


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "only plain files are members here"
    return file.read()
