"""A trial: one clip to score. And what rooms that read text files share.

Where trials come from is in `spectra_jax.sources`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, Any, Literal

Label = Literal["bonafide", "spoof"]

MANIFEST_DELIMITERS = {".csv": ",", ".tsv": "\t"}

_EXAMPLES = 5


class InputError(ValueError):
    """A command that asks for something impossible: nothing was scored, and what was given has to change."""


class StoppedError(RuntimeError):
    """Work that does not go on. What was done is kept."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One clip to score.

    Attributes:
      utterance_id: unique among the trials scored together, without white space.
      path: of the audio file, which need not exist; text where it is a URL.
      label: "bonafide" (a real person), "spoof", or None where it is not known.
      content: the audio file's bytes, where they come from elsewhere and `path` only says from where.
      stamp: short text that changes when the file does, such as its size and time of modification; None where unknown.
        Of a clip in a tar or parquet shard it is the shard's.
    """

    utterance_id: str
    path: Path | str
    label: Label | None = None
    content: bytes | None = field(default=None, repr=False)
    stamp: str | None = field(default=None, compare=False)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def examples(lines: Sequence[str]) -> str:
    more = len(lines) - _EXAMPLES
    return "".join(f"\n  {line}" for line in lines[:_EXAMPLES]) + (f"\n  ... and {more:,} more" if more > 0 else "")


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


def json_object(place: str, text: str | bytes) -> dict[str, Any]:
    """The JSON object that `text` is; `place` is what a message calls it.

    Raises:
      InputError: it is none.
    """
    try:
        found = json.loads(text)
    # UnicodeDecodeError, of bytes, is one too.
    except ValueError as error:
        raise InputError(f"{place}: no JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{place}: no JSON object")
    return found


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
        raise InputError(f"{name}: no readable parquet file: {str(error).splitlines()[0]}") from error


def csv_rows(path: Path | str, file: IO[bytes] | None = None) -> Generator[tuple[int, list[str]]]:
    """Line number and stripped cells of each line of a .csv or .tsv that is not blank, a few lines in memory at a time.

    Args:
      path: of the file, by whose extension cells are told apart.
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
    delimiter = MANIFEST_DELIMITERS[PurePath(path).suffix.lower()]
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        if Path(path).is_file():
            read_text(Path(path))  # names the very line
        raise InputError(f"{path}, after line {reader.line_num}: not UTF-8 text") from error
    finally:
        # Not closed with it: whoever opened the file does that.
        text.detach()


def parse_label(place: str, text: str) -> Label | None:
    """`bonafide` or `spoof`, in any case and with `bona fide`, `bona-fide` and `bona_fide`; empty text is no label.

    Raises:
      InputError: anything else, at `place`.
    """
    match re.sub(r"[ _-]", "", text.lower()):
        case "":
            return None
        case "bonafide":
            return "bonafide"
        case "spoof":
            return "spoof"
    # 0 and 1 are not guessed at: corpora disagree on which is which.
    raise InputError(f"{place}: label {text!r} is neither `bonafide` nor `spoof`")
