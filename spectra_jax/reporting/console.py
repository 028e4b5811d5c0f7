"""Tables that fit the width of a terminal without truncating a cell, and a console that escapes control characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from spectra_jax.messages import printable

# A text column gets at least the first width while optional columns are shown, and at least the second in any case.
_COMFORTABLE, _LEAST_TEXT = 16, 8
# Words of a header over numbers are kept in one piece up to this width; longer ones, such as file names, are folded.
_HEADER_WORD = 12


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      name: its header.
      kind: `number` is right-aligned and not folded; `word` is left-aligned and not folded; `text` is left-aligned and
        folded where the terminal is narrow.
      optional: 0 for a column that is always shown; columns of 1, then those of 2 and more, are left out where the
        terminal is too narrow for all.
    """

    name: str
    kind: str = "word"
    optional: int = 0


def number(value: float, digits: int) -> str:
    """A number with `digits` decimals; from 1e12 on, in scientific notation."""
    return f"{value:.{digits}f}" if abs(value) < 1e12 else f"{value:.{digits}e}"


def print_table(
    console: Console,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    header: bool = True,
) -> None:
    """Print a table in which no id, name or number is truncated.

    On a narrow terminal text is folded, then optional columns are left out and named below the table. Where that does
    not suffice, lines are longer than the terminal is wide, and it wraps them.

    Args:
      console: to print on; its width is that of the terminal.
      columns: of the table.
      rows: of one cell for each column; control characters in them are escaped.
      title: a line above the table.
      header: whether to show the columns' names.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    names = [printable(column.name) if header else "" for column in columns]
    contents = [[row[index] for row in cells] for index in range(len(columns))]
    shown = list(range(len(columns)))
    for rank in sorted({column.optional for column in columns} - {0}):
        if _fits(
            [_least(columns[index], names[index], contents[index], _COMFORTABLE) for index in shown], console.width
        ):
            break
        shown = [index for index in shown if columns[index].optional != rank]
    least = [_least(columns[index], names[index], contents[index], _LEAST_TEXT) for index in shown]
    longest = [max(map(cell_len, [names[index], *contents[index]])) for index in shown]
    widths = _widths(least, longest, console.width)
    # An explicit width, since rich would shrink columns to the console's width and truncate their cells.
    grid = Table(show_header=header, width=sum(widths) + 3 * len(widths) + 1)
    for index, width in zip(shown, widths, strict=True):
        grid.add_column(
            # As Text: brackets in a file name are not markup.
            Text(names[index], overflow="fold"),
            justify="right" if columns[index].kind == "number" else "left",
            overflow="fold",
            width=width,
        )
    for row in cells:
        grid.add_row(*(Text(row[index]) for index in shown))
    if title:
        console.print(Text(printable(title), overflow="fold"), highlight=False)
    console.print(grid, crop=False)
    if left_out := [column.name for index, column in enumerate(columns) if index not in shown]:
        console.print(Text(f"Left out on a terminal this narrow: {', '.join(left_out)}."), highlight=False)


def _fits(widths: Sequence[int], width: int) -> bool:
    # Each column has a space on both sides, and a line between it and the next.
    return sum(widths) + 3 * len(widths) + 1 <= width


def _least(column: Column, name: str, cells: Sequence[str], text: int) -> int:
    """The least width of a column; `text` is that of a text column."""
    longest = max(map(cell_len, cells), default=0)
    word = max(map(cell_len, name.split()), default=0)
    if column.kind == "text":
        return max(1, min(max(longest, word), text))
    # A header's words may be on lines of their own; numbers and label words are not folded.
    return max(1, longest, min(word, _HEADER_WORD))


def _widths(least: Sequence[int], longest: Sequence[int], width: int) -> list[int]:
    """Widths of columns: the width that is left goes to the columns that need most lines."""
    if _fits(longest, width):
        return [max(1, one) for one in longest]
    widths = list(least)
    while _fits([*widths[:-1], widths[-1] + 1], width):
        index = max(range(len(widths)), key=lambda index: longest[index] / widths[index])
        widths[index] += 1
    return widths


class SafeConsole(Console):
    """A rich console that escapes the characters that `printable` does, but line feeds and tabs, in all output."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Control segments are rich's own: they move the cursor.
            yield segment if segment.control else segment._replace(text=printable(segment.text, keep="\n\t"))
