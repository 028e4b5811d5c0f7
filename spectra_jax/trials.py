"""A trial: one clip to score. And what rooms that read text files share.

Where trials come from is in `spectra_jax.sources`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from spectra_jax.conventions import is_bonafide
from spectra_jax.printable import printable

Label = Literal["bonafide", "spoof"]

# Of a clip that is read into memory whole: from a URL or a tar shard.
MAX_CLIP_BYTES = 1 << 30

_EXAMPLES = 5


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


def json_object(where: str, text: str | bytes) -> dict[str, Any]:
    """The JSON object that `text` is; `where` is what a message calls it.

    Raises:
      InputError: it is not valid JSON, is nested too deeply, or is no object.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise InputError(f"{where}: not valid JSON (objects or lists nested too deeply)") from None
    # UnicodeDecodeError, of bytes, is one too, and so is what an integer of thousands of digits gives.
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f'{where}: a JSON object is expected, such as {{"path": "clip.wav"}}')
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
        raise InputError(f"{name}: not a readable parquet file: {str(error).splitlines()[0]}") from error


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
