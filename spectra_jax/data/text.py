"""Reading text, JSON and parquet that others wrote, with errors that name the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spectra_jax.data.conventions import is_bonafide
from spectra_jax.data.trial import Label
from spectra_jax.errors import InputError


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
    """`bonafide` or `spoof`, of any word that `spectra_jax.data.conventions` knows for them; empty text is no label.

    Raises:
      InputError: anything else, at `place`.
    """
    if not re.sub(r"[ _-]", "", text):
        return None
    if (bonafide := is_bonafide(text)) is not None:
        return "bonafide" if bonafide else "spoof"
    # 0 and 1 are not guessed at: corpora disagree on which is which.
    raise InputError(f"{place}: label {text!r} is neither `bonafide` nor `spoof`")
