"""Text from outside (file names, ids, error messages) made safe for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# C0, DEL and C1 control characters, what reverses or breaks a line (bidirectional controls, line separators), and
# surrogates, which stand for bytes of a file name that are not UTF-8.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


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


class SafeConsole(Console):
    """A rich console that escapes what `printable` does, line feeds and tabs apart, in all that is printed on it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Control segments are rich's own: they move the cursor.
            yield segment if segment.control else segment._replace(text=printable(segment.text, keep="\n\t"))
