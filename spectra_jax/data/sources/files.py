"""Audio files, folders of them, and glob patterns."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Literal

from spectra_jax.audio.containers import DECODABLE_SUFFIXES
from spectra_jax.data.sources.source import LeftOut, Source, stamp_of
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError

IdRule = Literal["stem", "path"]

# What is taken from a folder or a pattern. Any other file is taken that is given by its own name.
AUDIO_SUFFIXES = DECODABLE_SUFFIXES
KNOWN = "known by extension: " + " ".join(sorted(AUDIO_SUFFIXES))


def is_audio(path: PurePath) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES


def id_of(path: PurePath, ids: IdRule) -> str:
    """What a file's trial is called."""
    return path.stem if ids == "stem" else path.as_posix()


@dataclass(frozen=True)
class Files(Source):
    """A file, a folder or a pattern."""

    name: str
    ids: IdRule

    def listed(self, left_out: LeftOut | None = None) -> Iterator[Trial]:
        return self._trials(LeftOut() if left_out is None else left_out)

    def from_(self, start: int) -> Iterator[Trial]:
        return self._trials(LeftOut(), start)

    def _trials(self, left_out: LeftOut, start: int = 0) -> Iterator[Trial]:
        folder = Path(self.name) if os.path.isdir(self.name) else None  # noqa: PTH112
        for path in islice(self._paths(left_out), start, None):
            given = path.as_posix()
            relative = () if folder is None else (path.relative_to(folder).as_posix(),)
            yield Trial(id_of(path, self.ids), path, stamp=stamp_of(path), fallbacks=(*relative, given))

    def _paths(self, left_out: LeftOut) -> Iterator[Path]:
        given, path = self.name, Path(self.name)
        # os.path rather than pathlib: a path that cannot be looked at (no permission, too long) is not there either.
        if given and os.path.isdir(given):  # noqa: PTH112
            found = False
            for found_path in walk(path, left_out):
                found = True
                yield found_path
            if not found:
                raise InputError(f"{given}: no audio files in this folder or below it{_instead(left_out)} ({KNOWN})")
        elif given and os.path.exists(given):  # noqa: PTH110
            yield path
        elif any(mark in given for mark in "*?["):
            audio = matching(given, left_out)
            if not audio:
                raise InputError(f"{given}: no audio file matches this pattern{_instead(left_out)} ({KNOWN})")
            yield from audio
        else:
            raise InputError(f"{given or repr(given)}: no such file or folder")


def _instead(left_out: LeftOut) -> str:
    """What is there where no audio is."""
    packed = [kind for kind in (".tar", ".tgz", ".gz", ".parquet") if left_out.counts[kind]]
    hint = f"; give {' and '.join(packed)} files by their names to score the clips in them" if packed else ""
    return "".join(f"; {line}" for line in left_out.lines()) + hint


def walk(folder: Path, left_out: LeftOut, *, every: bool = False) -> Iterator[Path]:
    """Audio files of a folder and below, sorted by path, the names of one folder and its parents in memory at a time.

    Linked folders are entered, since corpora are often linked to another disk, but each folder once. Hidden files are
    left out: most are the "._clip.wav" that macOS leaves beside a clip. What cannot be looked into costs itself alone.
    With `every`, files of other suffixes come as well.

    Raises:
      InputError: `folder` itself cannot be listed.
    """
    entered = {os.path.realpath(folder)}
    # Not recursive: folders may be nested deeper than Python's calls.
    pending = [iter(_entries(folder, left_out, first=True))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            continue
        path, is_folder = entry
        if path.name.startswith("."):
            left_out.add(path, "hidden")
        elif not is_folder:
            if every or is_audio(path):
                yield path
            else:
                left_out.add(path)
        elif (target := os.path.realpath(path)) in entered:
            left_out.add(path, "repeated folder")
        else:
            entered.add(target)
            pending.append(iter(_entries(path, left_out)))


def _entries(folder: Path, left_out: LeftOut, *, first: bool = False) -> list[tuple[Path, bool]]:
    """What is in a folder, sorted by name, and whether each is a folder itself."""
    found = []
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                try:
                    found.append((entry.name, entry.is_dir()))
                except OSError as error:
                    # A link to itself, mostly. One that is called like a clip is refused when it is decoded.
                    if is_audio(PurePath(entry.name)):
                        found.append((entry.name, False))
                    else:
                        left_out.add_unreadable(entry.path, error.strerror)
    except OSError as error:
        if first:
            raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
        left_out.add_unreadable(folder, f"cannot be listed: {error.strerror}")
    return [(folder / name, is_folder) for name, is_folder in sorted(found)]


def matching(pattern: str, left_out: LeftOut, wanted: Callable[[PurePath], bool] = is_audio) -> list[Path]:
    """The wanted files that a glob pattern matches, sorted. `**` stands for any number of folders."""
    # Not the glob module, which passes over folders that it cannot list.
    parts = list(Path(pattern).parts)
    root = Path(parts.pop(0)) if Path(pattern).is_absolute() else Path()
    files, hidden, folders = set[Path](), set[Path](), set[Path]()
    for path, is_folder, is_hidden in _expanded(root, parts, left_out):
        (hidden if is_hidden else folders if is_folder else files).add(path)
    # What is in a folder may be matched as well.
    folders -= {parent for path in files | hidden for parent in path.parents}
    for paths, kind in ((files, None), (hidden, "hidden"), (folders, "folder")):
        for path in sorted(paths):
            if kind or not wanted(path):
                left_out.add(path, kind)
    return sorted(filter(wanted, files))


def _expanded(root: Path, parts: list[str], left_out: LeftOut) -> Iterator[tuple[Path, bool, bool]]:
    """What the parts of a pattern match below `root`: whether each is a folder, and hidden without being asked for."""
    part, *rest = parts
    if part == "**":
        yield from _expanded_below(root, rest or ["*"], left_out)
        return
    if not any(mark in part for mark in "*?["):
        path = root / part
        if rest:
            yield from _expanded(path, rest, left_out)
        elif os.path.lexists(path):
            yield path, os.path.isdir(path), False  # noqa: PTH112
        return
    matches = re.compile(fnmatch.translate(part)).match
    for path, is_folder in _entries(root, left_out) if os.path.isdir(root) else ():  # noqa: PTH112
        if not matches(path.name) or (rest and not is_folder):
            continue
        if path.name.startswith(".") and not part.startswith("."):
            yield path, is_folder, True
        elif rest:
            yield from _expanded(path, rest, left_out)
        else:
            yield path, is_folder, False


def _expanded_below(root: Path, rest: list[str], left_out: LeftOut) -> Iterator[tuple[Path, bool, bool]]:
    """What the rest of a pattern matches in a folder and in all folders below it."""
    entered, pending = set[str](), [root]
    while pending:
        folder = pending.pop()
        if (target := os.path.realpath(folder)) in entered:
            continue
        entered.add(target)
        yield from _expanded(folder, rest, left_out)
        for path, is_folder in _entries(folder, left_out) if os.path.isdir(folder) else ():  # noqa: PTH112
            if is_folder and path.name.startswith("."):
                yield path, True, True
            elif is_folder:
                pending.append(path)
