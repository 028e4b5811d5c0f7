"""Words for messages: counts, examples, and text from outside made safe for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

# C0, DEL and C1 control characters, what reverses or breaks a line (bidirectional controls, line separators), and
# surrogates, which stand for bytes of a file name that are not UTF-8.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Lines of a list that a message shows.
_EXAMPLES = 5
# Characters of a text that a message shows.
LONGEST_TEXT = 500


def printable(text: object, *, keep: str = "") -> str:
    r"""`text` with each control character, bidirectional control and surrogate as `\xNN` or `\uNNNN`.

    Args:
      text: what `str` makes of it.
      keep: such characters that stay, as the line feeds of a message of several lines. A name in a message keeps none,
        so that no name can look like a line of its own.
    """

    def escaped(match: re.Match[str]) -> str:
        code = ord(match[0])
        return match[0] if match[0] in keep else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _UNSAFE.sub(escaped, str(text))


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text as it can be shown: without what would steer a terminal, and cut where it is longer than `longest`."""
    return printable(text[:longest]) + ("..." if len(text) > longest else "")


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def examples(lines: Sequence[str], total: int | None = None) -> str:
    """The first few of `lines`, each on a line of its own and printable; `total` where `lines` are not all of them."""
    shown = "".join(f"\n  {printable(line)}" for line in lines[:_EXAMPLES])
    more = (len(lines) if total is None else total) - len(lines[:_EXAMPLES])
    return shown + (f"\n  ... and {more:,} more" if more > 0 else "")
