"""Audio files, folders of them, and glob patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Literal

from spectra_jax.sources.source import Source, stamp_of
from spectra_jax.trials import InputError, Trial, count

IdRule = Literal["stem", "path"]

# What is taken from a folder or a pattern. libsndfile also knows formats that no speech comes in (.mat), and one that
# it cannot read without being told the rate (.raw).
# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph",
    ".voc", ".w64", ".wav", ".wave",
})
# fmt: on
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

    def listed(self) -> Iterator[Trial]:
        return self.from_(0)

    def from_(self, start: int) -> Iterator[Trial]:
        for path in islice(self._paths(), start, None):
            yield Trial(id_of(path, self.ids), path, stamp=stamp_of(path))

    def _paths(self) -> Iterator[Path]:
        given, path = self.name, Path(self.name)
        # os.path rather than pathlib: a path that cannot be looked at (no permission, too long) is not there either.
        if given and os.path.isdir(given):  # noqa: PTH112
            found = False
            for found_path in _walk(path, set()):
                found = True
                yield found_path
            if not found:
                raise InputError(f"{given}: no audio files in this folder or below it ({KNOWN})")
        elif given and os.path.exists(given):  # noqa: PTH110
            yield path
        elif any(mark in given for mark in "*?["):
            # glob, since Path.glob takes no absolute patterns.
            matches = [Path(name) for name in glob.iglob(given, recursive=True)]  # noqa: PTH207
            audio = sorted(match for match in matches if is_audio(match) and not match.is_dir())
            if not audio:
                others = f"; it matches {count(len(matches), 'other path')}" if matches else ""
                raise InputError(f"{given}: no audio file matches this pattern ({KNOWN}){others}")
            yield from audio
        else:
            raise InputError(f"{given or repr(given)}: no such file or folder")


def _walk(folder: Path, entered: set[str]) -> Iterator[Path]:
    """Audio files of a folder and below, sorted by path, a folder's names in memory at a time."""
    # Linked folders are entered, since corpora are often linked to another disk, but none within itself.
    place = os.path.realpath(folder)
    if place in entered:
        return
    entered.add(place)
    try:
        with os.scandir(folder) as listing:
            # Hidden files are mostly the "._clip.wav" that macOS leaves beside a clip.
            entries = sorted((entry.name, entry.is_dir()) for entry in listing if not entry.name.startswith("."))
    except OSError as error:
        # Such a folder is not left out without a word.
        raise InputError(f"{error.filename}: cannot be listed: {error.strerror}") from error
    for name, is_folder in entries:
        if is_folder:
            yield from _walk(folder / name, entered)
        elif is_audio(path := folder / name):
            yield path
