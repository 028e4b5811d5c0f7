"""Text and JSON that others wrote, with errors that name the file and the line."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from spectra_jax.errors import InputError
from spectra_jax.files.untrusted import parse_json, require_plain_file

LONGEST_LINE = 1 << 24
"""In characters. A line of a table has a few hundred; a transcript may have thousands."""

# Bytes that are not UTF-8, and the byte order marks of UTF-16, as Python's "surrogateescape" decodes them.
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")
_UTF16 = ("\udcff\udcfe", "\udcfe\udcff")


@contextmanager
def open_plain_file(path: Path | str) -> Iterator[IO[bytes]]:
    """A file to read.

    Raises:
      InputError: it cannot be read, or is not a plain file.
    """
    require_plain_file(path)
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    """A file's text, in UTF-8 and without a byte order mark.

    Raises:
      InputError: it cannot be read, or is not UTF-8; the line is named.
    """
    with open_plain_file(path) as file:
        data = file.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}: UTF-16 text; save it as UTF-8")
    try:
        # -sig: spreadsheets write a byte order mark.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; save it as UTF-8") from error


def text_lines(name: Path | str, file: IO[bytes]) -> Iterator[tuple[int, str]]:
    """Line number and text of each line, without its end, a line in memory at a time.

    Args:
      name: of the file, for messages.
      file: to read from; left open.

    Raises:
      InputError: not UTF-8 text, or a line longer than any table's; the line is named.
    """
    # Spreadsheets write a byte order mark. Bytes that are not UTF-8 are looked for line by line, to name the line.
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        for number, line in enumerate(iter(lambda: text.readline(LONGEST_LINE), ""), start=1):
            _check_line(f"{name}, line {number}", line, first=number == 1)
            yield number, line.rstrip("\r\n")
    finally:
        # Or the wrapper would close the file. A caller that stops early may have closed it before.
        with suppress(ValueError):
            text.detach()


def _check_line(location: str, line: str, *, first: bool) -> None:
    if len(line) == LONGEST_LINE:
        raise InputError(f"{location}: longer than {LONGEST_LINE:,} characters, so this is not a table of trials")
    if first and line.startswith(_UTF16):
        raise InputError(f"{location}: UTF-16 text; save it as UTF-8")
    if not line.isascii() and _NOT_UTF8.search(line):
        raise InputError(f"{location}: not UTF-8 text; save it as UTF-8")
    if "\0" in line:
        raise InputError(f"{location}: NUL bytes, as in UTF-16 text or a binary file; save it as UTF-8 text")


def parse_object(location: str, text: str | bytes) -> dict[str, Any]:
    """The JSON object in a text. Its numbers may be NaN or infinite, which Python's `json` writes.

    Raises:
      InputError: not valid JSON, nested too deeply, or not an object; `location` is what the message calls it.
    """
    try:
        found = parse_json(text, finite=False)
    except ValueError as error:
        # UnicodeDecodeError, of bytes, is one too, and so is the error for an integer of thousands of digits.
        reason = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InputError(f"{location}: not valid JSON: {reason}") from error
    if not isinstance(found, dict):
        raise InputError(f'{location}: a JSON object is expected, such as {{"path": "clip.wav"}}')
    return found
