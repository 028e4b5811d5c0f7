"""A trial: one clip to score. And what rooms that read text files share.

Where trials come from is in `spectra_jax.sources`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePath
from typing import IO, Any, Literal, cast

from spectra_jax.conventions import is_bonafide
from spectra_jax.printable import printable

Label = Literal["bonafide", "spoof"]

MANIFEST_DELIMITERS = {".csv": ",", ".tsv": "\t"}

# Of a clip that is read into memory whole: from a URL or a tar shard.
MAX_CLIP_BYTES = 1 << 30

_EXAMPLES = 5
# Of a manifest, in characters: far longer than any path and label.
_LONGEST_LINE = 1 << 24
_OTHER_DELIMITERS = ";\t|"


class InputError(ValueError):
    """A command that asks for something impossible: nothing was scored, and what was given has to change."""


class StoppedError(RuntimeError):
    """Work that does not go on. What was done is kept."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One clip to score.

    Attributes:
      utterance_id: unique among the trials scored together; any text.
      path: of the audio file, which need not exist; text where it is a URL.
      label: "bonafide" (a real person), "spoof", or None where it is not known.
      content: the audio file's bytes, where they come from elsewhere and `path` only says from where.
      stamp: short text that changes when the file does, such as its size and time of modification; None where unknown.
        Of a clip in a tar or parquet shard it is the shard's.
      problem: why there is no clip to decode, where its source found that out.
      fallbacks: its ids in case that another trial has the same `utterance_id`, to be tried in this order; none for an
        id that a manifest states.
      max_bytes: the most that is read into memory from `path` where that is a URL.
    """

    utterance_id: str
    path: Path | str
    label: Label | None = None
    content: bytes | None = field(default=None, repr=False)
    stamp: str | None = field(default=None, compare=False)
    problem: str | None = field(default=None, compare=False, repr=False)
    fallbacks: tuple[str, ...] = field(default=(), compare=False, repr=False)
    max_bytes: int = field(default=MAX_CLIP_BYTES, compare=False, repr=False)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def examples(lines: Sequence[str], total: int | None = None) -> str:
    """The first few of `lines`, each on a line of its own and printable; `total` where `lines` are not all of them."""
    shown = "".join(f"\n  {printable(line)}" for line in lines[:_EXAMPLES])
    more = (len(lines) if total is None else total) - len(lines[:_EXAMPLES])
    return shown + (f"\n  ... and {more:,} more" if more > 0 else "")


def read_text(path: Path) -> str:
    """A file's text, in UTF-8 and without a byte order mark.

    Raises:
      InputError: it cannot be read, or is not UTF-8; the line is named.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}: UTF-16 text; save it as UTF-8")
    try:
        # -sig: spreadsheets write a byte order mark.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; save it as UTF-8") from error


def json_object(place: str, text: str | bytes) -> dict[str, Any]:
    """The JSON object that `text` is; `place` is what a message calls it.

    Raises:
      InputError: it is not valid JSON, is nested too deeply, or is no object.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise InputError(f"{place}: not valid JSON (objects or lists nested too deeply)") from None
    # UnicodeDecodeError, of bytes, is one too, and so is what an integer of thousands of digits gives.
    except ValueError as error:
        raise InputError(f"{place}: not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f'{place}: a JSON object is expected, such as {{"path": "clip.wav"}}')
    return found


def json_lines(name: str, file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line of a .jsonl that is not blank, a line in memory at a time.

    Raises:
      InputError: a line that is not valid JSON, no object, or longer than 16 MiB.
    """
    # A store's own file has no limit on a line.
    buffered = io.BufferedReader(cast(io.RawIOBase, file))
    try:
        for line, text in enumerate(iter(lambda: buffered.readline(_LONGEST_LINE), b""), start=1):
            if len(text) == _LONGEST_LINE:
                raise InputError(f"{name}, line {line}: longer than {_LONGEST_LINE:,} bytes; is it a text file?")
            # Some editors write a byte order mark.
            text = text.removeprefix(b"\xef\xbb\xbf" if line == 1 else b"").strip()
            if text:
                yield line, json_object(f"{name}, line {line}", text)
    finally:
        # Not closed with it: whoever opened the file does that.
        buffered.detach()


@contextmanager
def reading_parquet(name: Path | str) -> Iterator[None]:
    """What pyarrow says of a file that it cannot read, as an error for people.

    Raises:
      InputError: it could not.
    """
    import pyarrow as pa

    try:
        yield
    # OSError: a damaged footer, too. UnicodeDecodeError: text that is no UTF-8.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: not a readable parquet file: {str(error).splitlines()[0]}") from error


def csv_rows(path: Path | str, file: IO[bytes] | None = None) -> Generator[tuple[int, list[str]]]:
    """Line number and stripped cells of each line of a .csv or .tsv that is not blank, a few lines in memory at a time.

    Cells of a .tsv are separated by tabs, and those of a .csv by what separates the cells of its first line: commas,
    or where it has none outside of quotes, the most frequent of semicolon, tab and vertical bar.

    Args:
      path: of the file.
      file: where to read it from, if not there.

    Raises:
      InputError: it cannot be read; the line is named.
    """
    if file is None:
        try:
            opened = Path(path).open("rb")  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        with opened, closing(csv_rows(path, opened)) as rows:
            yield from rows
        return
    # -sig: spreadsheets write a byte order mark.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(())
    try:
        lines, head = _lines(path, text), list[str]()
        for line in lines:
            head.append(line)
            if line.strip():
                break
        delimiter = MANIFEST_DELIMITERS[PurePath(path).suffix.lower()]
        if delimiter == "," and head:
            delimiter = _delimiter(head[-1])
        reader = csv.reader(chain(head, lines), delimiter=delimiter, strict=True)
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        if Path(path).is_file():
            read_text(Path(path))  # names the very line
        raise InputError(f"{path}, after line {reader.line_num}: not UTF-8 text; save it as UTF-8") from error
    finally:
        # Not closed with it: whoever opened the file does that.
        text.detach()


def _lines(path: Path | str, text: io.TextIOWrapper) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: text.readline(_LONGEST_LINE), ""), start=1):
        if len(line) == _LONGEST_LINE:
            raise InputError(f"{path}, line {number}: longer than {_LONGEST_LINE:,} characters; is it a text file?")
        yield line


def _delimiter(header: str) -> str:
    """What separates the cells of a .csv, by its first line."""
    plain = re.sub(r'"[^"]*"', "", header)
    most = max(_OTHER_DELIMITERS, key=plain.count)
    return most if "," not in plain and most in plain else ","


def parse_label(place: str, text: str) -> Label | None:
    """`bonafide` or `spoof`, of any word that `spectra_jax.conventions` knows for them; empty text is no label.

    Raises:
      InputError: anything else, at `place`.
    """
    if not re.sub(r"[ _-]", "", text):
        return None
    if (bonafide := is_bonafide(text)) is not None:
        return "bonafide" if bonafide else "spoof"
    # 0 and 1 are not guessed at: corpora disagree on which is which.
    raise InputError(f"{place}: label {text!r} is neither `bonafide` nor `spoof`")
