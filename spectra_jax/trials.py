"""Where trials come from: audio files, folders of them, glob patterns, manifests, and datasets of parquet files.

    collect(["clip.flac", "corpus/", "more/**/*.wav", "trials.csv", "SpeechAntiSpoofingBenchmarks/InTheWild"])

No audio is opened here. What only reading a clip can tell (a file that a manifest lists and that is not there, one
that holds no audio) is left to the reading, where it costs that one trial.
"""

from __future__ import annotations

import csv
import glob
import io
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from spectra_jax.arena.dataset import Dataset

Label = Literal["bonafide", "spoof"]
IdRule = Literal["stem", "path"]

# What is taken from a folder or a pattern. libsndfile also knows formats that no speech comes in (.mat), and one that
# it cannot read without being told the rate (.raw).
# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph",
    ".voc", ".w64", ".wav", ".wave",
})
# fmt: on
_HUB_DATASETS = "hf://datasets/"
MANIFEST_DELIMITERS = {".csv": ",", ".tsv": "\t"}

# A score file has one space between id and score and one trial a line, in UTF-8 (which has no surrogates).
_UNFIT_FOR_ID = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_EXAMPLES = 5


class InputError(ValueError):
    """A command that asks for something impossible: nothing was scored, and what was given has to change."""


@dataclass(frozen=True)
class Trial:
    """One clip to score.

    Attributes:
      utterance_id: unique among the trials scored together, without white space.
      path: of the audio file, which need not exist.
      label: "bonafide" (a real person), "spoof", or None where it is not known.
      content: the audio file's bytes, where they come from elsewhere and `path` only says from where.
    """

    utterance_id: str
    path: Path
    label: Label | None = None
    content: bytes | None = field(default=None, repr=False)


class Trials(Collection[Trial]):
    """Trials in order, to be iterated over once: those of datasets get their clips as they are reached."""

    def __init__(self, parts: Sequence[list[Trial] | Dataset]):
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[Trial]:
        return chain.from_iterable(self._parts)

    def __contains__(self, trial: object) -> bool:
        return any(trial == other for other in self.listed())

    def listed(self) -> Iterator[Trial]:
        """The same trials, those of datasets without their clips."""
        return chain.from_iterable(part if isinstance(part, list) else part.listed for part in self._parts)


def collect(inputs: Sequence[str | os.PathLike[str]], *, ids: IdRule = "stem") -> list[Trial] | Trials:
    """The trials that `inputs` stand for, in the order given; with a dataset among them, to be iterated over once.

    Each input is one of:
      - a manifest: a `.csv` (commas) or `.tsv` (tabs) in UTF-8 whose first line names its columns. `path` is needed,
        relative to the manifest's folder unless absolute; `utterance_id` and `label` are optional, and other columns
        are ignored. A label is `bonafide` or `spoof` in any case, `bona fide`, `bona-fide` and `bona_fide` included;
        an empty one is unknown. A listed file need not exist.
      - a dataset in the Arena's layout: a folder with `data/test-*.parquet`, a `.parquet` file, or one of the Hub:
        `SpeechAntiSpoofingBenchmarks/NAME[@revision]` or `hf://datasets/org/name[@revision]`.
      - any other file: taken whatever its extension.
      - a folder: its audio files by extension, those of its subfolders included, hidden ones left out, sorted by path.
      - a glob pattern: the audio files by extension that it matches, sorted by path. `**` stands for any number of
        folders. An existing file or folder of that very name is taken before the pattern is.

    Args:
      inputs: see above; at least one.
      ids: what a trial is called where no manifest says: the file's name without its extension, or its path as given
        (with `/` between folders; in a manifest, as written there).

    Raises:
      InputError: an input that is not there, matches nothing or holds no audio files; a manifest that cannot be read,
        naming the line; ids that are empty, hold white space, or are shared.
    """
    if not inputs:
        raise InputError("no input: give audio files, folders, glob patterns, manifests (.csv, .tsv) or datasets")
    parts = [_part(os.fspath(given), ids) for given in inputs]
    trials = Trials(parts)
    check_ids(trials.listed())
    # Clips of datasets must not all be in memory.
    return list(trials) if all(isinstance(part, list) for part in parts) else trials


def check_ids(trials: Iterable[Trial]) -> None:
    """See that every trial has an id of its own that fits a score file.

    Raises:
      InputError: ids that are empty, hold white space or control characters, are not UTF-8, or are shared: how many,
        up to five examples, and what to do.
    """
    by_id: dict[str, list[Path]] = defaultdict(list)
    for trial in trials:
        by_id[trial.utterance_id].append(trial.path)
    unfit = [f"{name!r}: {paths[0]}" for name, paths in by_id.items() if not name or _UNFIT_FOR_ID.search(name)]
    if unfit:
        raise InputError(
            f"{count(len(unfit), 'utterance id')} empty or with white space, control characters or bytes that are no "
            f"UTF-8, which a score file cannot hold:{examples(unfit)}\n"
            "Rename the files, or give a manifest with a column utterance_id."
        )
    shared = [f"{name!r}: {paths[0]} and {paths[1]}" for name, paths in by_id.items() if len(paths) > 1]
    if shared:
        raise InputError(
            f"{count(len(shared), 'utterance id')} shared by several trials:{examples(shared)}\n"
            "Give each file once, and where files in different folders have the same name, take their paths as ids "
            "(`--id path`) or give a manifest with a column utterance_id."
        )


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def examples(lines: Sequence[str]) -> str:
    more = len(lines) - _EXAMPLES
    return "".join(f"\n  {line}" for line in lines[:_EXAMPLES]) + (f"\n  ... and {more:,} more" if more > 0 else "")


def _part(given: str, ids: IdRule) -> list[Trial] | Dataset:
    from spectra_jax.arena import dataset

    if os.path.exists(given):  # noqa: PTH110
        return dataset.open_local(Path(given)) if dataset.find_shards(Path(given)) else list(_expand(given, ids))
    if not given.startswith((_HUB_DATASETS, f"{dataset.ORGANISATION}/")):
        return list(_expand(given, ids))
    name, _, revision = given.removeprefix(_HUB_DATASETS).partition("@")
    return dataset.open_hub(name, revision or None)


def _expand(given: str, ids: IdRule) -> Iterator[Trial]:
    path = Path(given)
    # os.path rather than pathlib: a path that cannot be looked at (no permission, too long) is not there either.
    if given and os.path.isdir(given):  # noqa: PTH112
        found = sorted(_walk(path))
        if not found:
            raise InputError(f"{given}: no audio files in this folder or below it ({_known()})")
    elif given and os.path.exists(given):  # noqa: PTH110
        if path.suffix.lower() in MANIFEST_DELIMITERS:
            yield from _read_manifest(path, ids)
            return
        found = [path]
    elif any(mark in given for mark in "*?["):
        # glob, since Path.glob takes no absolute patterns.
        matches = [Path(name) for name in glob.glob(given, recursive=True)]  # noqa: PTH207
        found = sorted(match for match in matches if _is_audio(match) and not match.is_dir())
        if not found:
            others = f"; it matches {count(len(matches), 'other path')}" if matches else ""
            raise InputError(f"{given}: no audio file matches this pattern ({_known()}){others}")
    else:
        raise InputError(f"{given or repr(given)}: no such file or folder")
    yield from (Trial(_id(path, ids), path) for path in found)


def _known() -> str:
    return "known by extension: " + " ".join(sorted(AUDIO_SUFFIXES))


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES


def _id(path: Path, ids: IdRule) -> str:
    return path.stem if ids == "stem" else path.as_posix()


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        # The default is to leave such a folder out without a word.
        raise InputError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    # Linked folders are entered, since corpora are often linked to another disk, but none within itself.
    entered = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        place = os.path.realpath(parent)
        if place in entered:
            folders.clear()
            continue
        entered.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # Hidden files are mostly the "._clip.wav" that macOS leaves beside a clip.
        found = (Path(parent, name) for name in names if not name.startswith("."))
        yield from (path for path in found if _is_audio(path))


def read_text(path: Path) -> str:
    """A file's text, in UTF-8 and without a byte order mark.

    Raises:
      InputError: it cannot be read, or is not UTF-8; the line is named.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        # -sig: spreadsheets write a byte order mark.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text") from error


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each line of a .csv or .tsv that is not blank.

    Raises:
      InputError: it cannot be read; the line is named.
    """
    delimiter = MANIFEST_DELIMITERS[path.suffix.lower()]
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error


def _read_manifest(manifest: Path, ids: IdRule) -> Iterator[Trial]:
    rows = csv_rows(manifest)
    line, header = next(rows, (0, []))
    columns = [name.lower() for name in header]
    if not header:
        raise InputError(f"{manifest}: empty; the first line names the columns: path, utterance_id, label")
    if "path" not in columns:
        raise InputError(f"{manifest}, line {line}: no column `path` in the header, which has: {', '.join(header)}")
    for name in ("path", "utterance_id", "label"):
        if columns.count(name) > 1:
            raise InputError(f"{manifest}, line {line}: {columns.count(name)} columns called `{name}`")
    empty = True
    for line, row in rows:
        empty = False
        if len(row) != len(columns):
            raise InputError(
                f"{manifest}, line {line}: {count(len(row), 'cell')} where the header has {len(columns)}"
                " (a cell that holds the separator itself goes in double quotes)"
            )
        cells = dict(zip(columns, row, strict=True))
        if not cells["path"]:
            raise InputError(f"{manifest}, line {line}: no path")
        if cells.get("utterance_id") == "":
            raise InputError(f"{manifest}, line {line}: no utterance_id")
        name = cells.get("utterance_id") or _id(Path(cells["path"]), ids)
        # An absolute path stays as it is.
        yield Trial(name, manifest.parent / cells["path"], _parse_label(manifest, line, cells.get("label", "")))
    if empty:
        raise InputError(f"{manifest}: a header and no trials")


def _parse_label(manifest: Path, line: int, text: str) -> Label | None:
    match re.sub(r"[ _-]", "", text.lower()):
        case "":
            return None
        case "bonafide":
            return "bonafide"
        case "spoof":
            return "spoof"
    # 0 and 1 are not guessed at: corpora disagree on which is which.
    raise InputError(f"{manifest}, line {line}: label {text!r} is neither `bonafide` nor `spoof`")
