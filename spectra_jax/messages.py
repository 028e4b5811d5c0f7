"""Text for messages: counts with their nouns, examples, and untrusted text escaped for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

# C0, DEL and C1 control characters, characters that reverse or break a line (bidirectional controls, line separators),
# and surrogates, with which Python represents the bytes of a file name that are not UTF-8.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# How many lines of a list a message shows.
_EXAMPLES = 5
LONGEST_TEXT = 500
"""How many characters of a text a message shows."""


def printable(text: object, *, keep: str = "") -> str:
    r"""`text` with each control character, bidirectional control and surrogate as `\xNN` or `\uNNNN`.

    Args:
      text: converted by `str`.
      keep: characters that are not escaped, such as the line feeds of a message of several lines. Keep none in a name,
        so that no name can look like a line of its own.
    """

    def escaped(match: re.Match[str]) -> str:
        code = ord(match[0])
        return match[0] if match[0] in keep else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _UNSAFE.sub(escaped, str(text))


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """`text`, printable, and cut with an ellipsis where it is longer than `longest` characters."""
    return printable(text[:longest]) + ("..." if len(text) > longest else "")


def on_one_line(error: Exception) -> str:
    """The message of an error without its line breaks, for a row of a table or a note."""
    return " ".join(str(error).split())


def count(number: int, noun: str) -> str:
    """`1 trial`, `2,000 trials`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def examples(lines: Sequence[str], total: int | None = None) -> str:
    """The first five of `lines`, each printable, indented and on a line of its own, and how many more there are.

    Args:
      lines: to show; the first few of a long list are enough.
      total: how many there are, where `lines` does not have them all.
    """
    shown = "".join(f"\n  {printable(line)}" for line in lines[:_EXAMPLES])
    more = (len(lines) if total is None else total) - len(lines[:_EXAMPLES])
    return shown + (f"\n  ... and {more:,} more" if more > 0 else "")
