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
from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.sources.source import Source, file_stamp
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError

IdRule = Literal["stem", "path"]

AUDIO_SUFFIXES = DECODABLE_SUFFIXES
"""Which files of a folder or pattern are audio. A file that is given by its own name is taken whatever its suffix."""
KNOWN = "known by extension: " + " ".join(sorted(AUDIO_SUFFIXES))


def is_audio(path: PurePath) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES


def id_of(path: PurePath, ids: IdRule) -> str:
    """The utterance id of a file."""
    return path.stem if ids == "stem" else path.as_posix()


@dataclass(frozen=True)
class Files(Source):
    """A file, a folder or a pattern."""

    name: str
    ids: IdRule

    def list_trials(self, skipped: SkippedInputs | None = None) -> Iterator[Trial]:
        return self._trials(SkippedInputs() if skipped is None else skipped)

    def read_trials(self, start: int) -> Iterator[Trial]:
        return self._trials(SkippedInputs(), start)

    def _trials(self, skipped: SkippedInputs, start: int = 0) -> Iterator[Trial]:
        folder = Path(self.name) if os.path.isdir(self.name) else None  # noqa: PTH112
        for path in islice(self._paths(skipped), start, None):
            relative = () if folder is None else (path.relative_to(folder).as_posix(),)
            yield Trial(id_of(path, self.ids), path, stamp=file_stamp(path), fallbacks=(*relative, path.as_posix()))

    def _paths(self, skipped: SkippedInputs) -> Iterator[Path]:
        name, path = self.name, Path(self.name)
        # os.path rather than pathlib: to it, a path without permission or one that is too long does not exist.
        if name and os.path.isdir(name):  # noqa: PTH112
            found = False
            for found_path in walk(path, skipped):
                found = True
                yield found_path
            if not found:
                raise InputError(f"{name}: no audio files in this folder or below it{_instead(skipped)} ({KNOWN})")
        elif name and os.path.exists(name):  # noqa: PTH110
            yield path
        elif any(mark in name for mark in "*?["):
            audio = matching(name, skipped)
            if not audio:
                raise InputError(f"{name}: no audio file matches this pattern{_instead(skipped)} ({KNOWN})")
            yield from audio
        else:
            raise InputError(f"{name or repr(name)}: no such file or folder")


def _instead(skipped: SkippedInputs) -> str:
    """What was found instead of audio, and what to do about archives."""
    packed = [kind for kind in (".tar", ".tgz", ".gz", ".parquet") if skipped.counts[kind]]
    hint = f"; give {' and '.join(packed)} files by their names to score the clips in them" if packed else ""
    return skipped.details() + hint


def walk(folder: Path, skipped: SkippedInputs, *, every: bool = False) -> Iterator[Path]:
    """Audio files of a folder and below, sorted by path, the names of one folder and its parents in memory at a time.

    Linked folders are entered, since corpora are often linked to another disk, but each folder once. Hidden files are
    skipped: most are the "._clip.wav" that macOS writes beside a clip. A folder that cannot be read is skipped as well.

    Args:
      folder: to search.
      skipped: counts what is skipped.
      every: include files with other suffixes.

    Raises:
      InputError: `folder` itself cannot be listed.
    """
    entered = {os.path.realpath(folder)}
    # Not recursive: folders may be nested deeper than Python's calls.
    pending = [iter(_entries(folder, skipped, first=True))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            continue
        path, is_folder = entry
        if path.name.startswith("."):
            skipped.add(path, "hidden")
        elif not is_folder:
            if every or is_audio(path):
                yield path
            else:
                skipped.add(path)
        elif (target := os.path.realpath(path)) in entered:
            skipped.add(path, "repeated folder")
        else:
            entered.add(target)
            pending.append(iter(_entries(path, skipped)))


def _entries(folder: Path, skipped: SkippedInputs, *, first: bool = False) -> list[tuple[Path, bool]]:
    """The entries of a folder, sorted by name, and whether each is a folder itself; `first` if it is the one given."""
    found = []
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                try:
                    found.append((entry.name, entry.is_dir()))
                except OSError as error:
                    # Usually a link to itself. One that is named like a clip is refused when it is decoded.
                    if is_audio(PurePath(entry.name)):
                        found.append((entry.name, False))
                    else:
                        skipped.add_unreadable(entry.path, error.strerror)
    except OSError as error:
        if first:
            raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
        skipped.add_unreadable(folder, f"cannot be listed: {error.strerror}")
    return [(folder / name, is_folder) for name, is_folder in sorted(found)]


def matching(pattern: str, skipped: SkippedInputs, wanted: Callable[[PurePath], bool] = is_audio) -> list[Path]:
    """The wanted files that a glob pattern matches, sorted. `**` matches any number of folders."""
    # Not the glob module, which silently skips folders that it cannot list.
    parts = list(Path(pattern).parts)
    root = Path(parts.pop(0)) if Path(pattern).is_absolute() else Path()
    files, hidden, folders = set[Path](), set[Path](), set[Path]()
    for path, is_folder, is_hidden in _expanded(root, parts, skipped):
        (hidden if is_hidden else folders if is_folder else files).add(path)
    # Folders whose content is matched as well are not skipped.
    folders -= {parent for path in files | hidden for parent in path.parents}
    for paths, kind in ((files, None), (hidden, "hidden"), (folders, "folder")):
        for path in sorted(paths):
            if kind or not wanted(path):
                skipped.add(path, kind)
    return sorted(filter(wanted, files))


def _expanded(root: Path, parts: list[str], skipped: SkippedInputs) -> Iterator[tuple[Path, bool, bool]]:
    """What the parts of a pattern match below `root`; whether it is a folder, and hidden although no part is."""
    part, *rest = parts
    if part == "**":
        yield from _expanded_below(root, rest or ["*"], skipped)
        return
    if not any(mark in part for mark in "*?["):
        path = root / part
        if rest:
            yield from _expanded(path, rest, skipped)
        elif os.path.lexists(path):
            yield path, os.path.isdir(path), False  # noqa: PTH112
        return
    matches = re.compile(fnmatch.translate(part)).match
    for path, is_folder in _entries(root, skipped) if os.path.isdir(root) else ():  # noqa: PTH112
        if not matches(path.name) or (rest and not is_folder):
            continue
        if path.name.startswith(".") and not part.startswith("."):
            yield path, is_folder, True
        elif rest:
            yield from _expanded(path, rest, skipped)
        else:
            yield path, is_folder, False


def _expanded_below(root: Path, rest: list[str], skipped: SkippedInputs) -> Iterator[tuple[Path, bool, bool]]:
    """What the rest of a pattern, after `**`, matches in a folder and in all folders below it."""
    entered, pending = set[str](), [root]
    while pending:
        folder = pending.pop()
        if (target := os.path.realpath(folder)) in entered:
            continue
        entered.add(target)
        yield from _expanded(folder, rest, skipped)
        for path, is_folder in _entries(folder, skipped) if os.path.isdir(folder) else ():  # noqa: PTH112
            if is_folder and path.name.startswith("."):
                yield path, True, True
            elif is_folder:
                pending.append(path)
