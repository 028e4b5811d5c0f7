"""Tar shards in WebDataset's layout: the members of one sample share their name up to the first dot of its last part.

    000001.flac  000001.json      a clip, and its metadata: "utterance_id", "label"
    speaker/7.wav                 a clip alone

Shards are given by a name, a pattern, or a range such as `speech-{0000..0099}.tar`, as paths or URLs. A sample's id is
stated by its JSON, or else it is its name: the last part of it, or with `--id path` all of it. Clips are scored in the
order of the file; a sample's JSON may be anywhere in it. Each shard is read to its end before anything is scored, since
otherwise one damaged header would hide all members after it. Compressed shards (`.tar.gz`, `.tgz`) take longer to
resume in the middle of.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from spectra_jax.data.conventions import parse_label
from spectra_jax.data.sources import remote
from spectra_jax.data.sources.files import AUDIO_SUFFIXES, KNOWN, IdRule, matching
from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.sources.source import Source
from spectra_jax.data.sources.tar import TarShard, open_tar
from spectra_jax.data.trial import MAX_CLIP_BYTES, Trial
from spectra_jax.errors import InputError
from spectra_jax.messages import printable

_SUFFIX = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_shards(name: str) -> bool:
    """Whether an input names tar shards."""
    return _SUFFIX.search(name.partition("?")[0]) is not None


@dataclass(frozen=True)
class Shards(Source):
    """The samples of one or many shards."""

    name: str
    ids: IdRule
    max_clip_bytes: int = MAX_CLIP_BYTES
    # Of each shard that was listed: how many clips it has, and whether it is in order.
    _listed: dict[str, tuple[int, bool]] = field(default_factory=dict, compare=False, repr=False)

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        total = 0
        skipped = SkippedInputs() if skipped is None else skipped
        for shard in self._shards(skipped):
            index = _index(shard, self.max_clip_bytes, skipped)
            self._listed[shard] = len(index.clips), index.in_order
            total += len(index.clips)
            stamp = remote.stamp(shard)
            for key, name in index.clips:
                yield self._trial(shard, key, name, index.metadata.get(key, {}), stamp)
        if not total:
            raise InputError(f"{self.name}: no audio in it{skipped.details()} ({KNOWN})")

    def read_trials(self, start: int) -> Iterator[Trial]:
        for shard in self._shards(SkippedInputs()):
            number, in_order = self._listed.get(shard, (None, False))
            if number is not None and number <= start:
                start -= number
                continue
            # If each sample's JSON is beside its clip, both are read together.
            index = None if in_order else _index(shard, self.max_clip_bytes, SkippedInputs())
            passed = 0
            for trial in self._with_clips(shard, index, start):
                passed += 1
                yield trial
            start = max(start - (passed if number is None else number), 0)

    def _with_clips(self, shard: str, index: _ShardIndex | None, start: int) -> Iterator[Trial]:
        """The trials of a shard from its clip `start` on."""
        stamp, position = remote.stamp(shard), 0
        with open_tar(shard, self.max_clip_bytes) as tar:
            members = (member for member in tar.members() if _kind(member) in ("clip", "json"))
            for key, group in itertools.groupby(members, lambda member: _key(member.name)):
                metadata = {} if index is None else index.metadata.get(key, {})
                clips: list[tuple[str, bytes | None, str | None]] = []
                for member in group:
                    if _kind(member) == "clip" and position >= start:
                        clips.append((member.name, *tar.clip(member)))
                    elif _kind(member) == "json" and index is None:
                        metadata |= tar.json(member)
                    position += _kind(member) == "clip"
                for name, content, problem in clips:
                    yield self._trial(shard, key, name, metadata, stamp, content, problem)

    def _trial(
        self,
        shard: str,
        key: str,
        clip: str,
        metadata: dict[str, object],
        stamp: str | None,
        content: bytes | None = None,
        problem: str | None = None,
    ) -> Trial:
        name, label = metadata.get("utterance_id"), metadata.get("label")
        location = f"{shard}: {printable(key)}"
        if not isinstance(name, str | None) or not isinstance(label, str | None):
            raise InputError(f"{location}: utterance_id {name!r} and label {label!r} in its JSON: both must be text")
        return Trial(
            name or (key if self.ids == "path" else posixpath.basename(key)),
            f"{shard}/{clip}",
            parse_label(location, label or ""),
            content,
            stamp=stamp,
            problem=problem,
            fallbacks=() if name else (key, f"{shard}/{key}"),
        )

    def _shards(self, skipped: SkippedInputs) -> list[str]:
        found = _expanded(self.name, skipped)
        if not found:
            raise InputError(f"{self.name}: no such shard{skipped.details()}")
        return found


def _expanded(name: str, skipped: SkippedInputs) -> list[str]:
    """The shards of a name, pattern or range, in order."""
    # Not braceexpand, which also expands `{a,b}`, a valid part of a file name.
    if span := _RANGE.search(name):
        first, last = span[1], span[2]
        numbers = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
        names = (name[: span.start()] + number + name[span.end() :] for number in numbers)
        return [shard for one in names for shard in _expanded(one, skipped)]
    if not remote.is_pattern(name) or os.path.exists(name):  # noqa: PTH110
        return [name]
    if remote.is_url(name):
        return remote.glob(name)
    return sorted(map(str, matching(name, skipped, lambda path: is_shards(path.name))))


@dataclass
class _ShardIndex:
    """What the headers and the JSON of a shard contain.

    Attributes:
      clips: key and member name of each clip, in the order of the file.
      metadata: what is kept of the JSON, by key.
      in_order: whether each sample's members follow each other.
    """

    clips: list[tuple[str, str]] = field(default_factory=list)
    metadata: dict[str, dict[str, object]] = field(default_factory=dict)
    in_order: bool = True


def _index(shard: str, max_clip_bytes: int, skipped: SkippedInputs) -> _ShardIndex:
    """Read a shard to its end.

    Raises:
      InputError: it is damaged or cut short, or has several clips or contradicting JSON of one sample.
    """
    index = _ShardIndex()
    clips: dict[str, str] = {}
    jsons: dict[str, str] = {}
    seen, last = set[str](), ""
    with open_tar(shard, max_clip_bytes) as tar:
        for member in tar.members():
            kind, key, path = _kind(member), _key(member.name), f"{shard}/{member.name}"
            if kind == "folder":
                continue
            if kind not in ("clip", "json"):
                skipped.add(path, kind)
                continue
            index.in_order &= key == last or key not in seen
            seen.add(key)
            last = key
            if kind == "json":
                _add_metadata(index, key, tar, member, jsons)
                jsons[key] = member.name
            elif key in clips:
                raise InputError(f"{printable(path)}: several clips of one sample: {printable(clips[key])} is another")
            else:
                clips[key] = member.name
                index.clips.append((key, member.name))
    for key in jsons.keys() - clips.keys():
        skipped.add(f"{shard}/{jsons[key]}")
    return index


def _add_metadata(index: _ShardIndex, key: str, tar: TarShard, member: tarfile.TarInfo, jsons: dict[str, str]) -> None:
    """Keep what is used of a JSON member; `jsons` has the name of the sample's previous one."""
    used = {name: value for name, value in tar.json(member).items() if name in ("utterance_id", "label")}
    before = index.metadata.setdefault(key, {})
    if any(before.get(name, value) != value for name, value in used.items()):
        raise InputError(
            f"{printable(f'{tar.shard}/{member.name}')}: another utterance_id or label than in {printable(jsons[key])}"
        )
    before |= used


def _key(name: str) -> str:
    folder, base = posixpath.split(name.removeprefix("./"))
    return posixpath.join(folder, base.partition(".")[0])


def _kind(member: tarfile.TarInfo) -> str | None:
    """A member's kind: "clip" and "json" are used, "folder" is ignored; others are counted under what this returns."""
    if member.isdir():
        return "folder"
    if posixpath.basename(member.name).startswith("."):
        return "hidden"
    if not member.isfile():
        return "link" if member.islnk() or member.issym() else "special file"
    suffix = PurePosixPath(member.name).suffix.lower()
    return "clip" if suffix in AUDIO_SUFFIXES else "json" if suffix == ".json" else None
