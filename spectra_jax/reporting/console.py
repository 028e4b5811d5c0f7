"""Tables on a terminal: as narrow as it is, and nothing in them cut off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from spectra_jax.messages import printable

# A text column gets at least the first width while optional columns are there, and at least the second in any case.
_COMFORTABLE, _LEAST_TEXT = 16, 8
# Words of a header over numbers stay whole up to this width; longer ones, such as a file's name, are folded.
_HEADER_WORD = 12


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      name: its header.
      kind: `number` is on the right and in one line; `word` is on the left and in one line; `text` is on the left and
        folded where the terminal is narrow.
      optional: may be left out where the terminal is too narrow for all columns: 1 before 2; 0 is never left out.
    """

    name: str
    kind: str = "word"
    optional: int = 0


def number(value: float, digits: int) -> str:
    """A number to so many decimals; in scientific notation where that would fill a line."""
    return f"{value:.{digits}f}" if abs(value) < 1e12 else f"{value:.{digits}e}"


def print_table(
    console: Console,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    header: bool = True,
) -> None:
    """Print a table in which every id, name and number is whole.

    On a narrow terminal text is folded, then optional columns are left out, and a line says which. What is too narrow
    even so gets lines longer than it is, which terminals wrap.

    Args:
      console: where to print; its width counts.
      columns: of the table.
      rows: a cell for each column; control characters in them are escaped.
      title: a line above the table.
      header: whether the columns' names are shown.
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
    # Its own width, since rich would shrink the columns to the console's where their least widths do not fit.
    grid = Table(show_header=header, width=sum(widths) + 3 * len(widths) + 1)
    for index, width in zip(shown, widths, strict=True):
        grid.add_column(
            # As Text: brackets in a file name are no markup.
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
    """The width below which a column is not shown; `text` is that of a text column."""
    longest = max(map(cell_len, cells), default=0)
    word = max(map(cell_len, name.split()), default=0)
    if column.kind == "text":
        return max(1, min(max(longest, word), text))
    # A header's words may go below one another; numbers and label words stay whole.
    return max(1, longest, min(word, _HEADER_WORD))


def _widths(least: Sequence[int], longest: Sequence[int], width: int) -> list[int]:
    """Widths of columns: what is left of a terminal's width goes to those that need most lines."""
    if _fits(longest, width):
        return [max(1, one) for one in longest]
    widths = list(least)
    while _fits([*widths[:-1], widths[-1] + 1], width):
        index = max(range(len(widths)), key=lambda index: longest[index] / widths[index])
        widths[index] += 1
    return widths


class SafeConsole(Console):
    """A rich console that escapes what `printable` does, line feeds and tabs apart, in all that is printed on it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Control segments are rich's own: they move the cursor.
            yield segment if segment.control else segment._replace(text=printable(segment.text, keep="\n\t"))
