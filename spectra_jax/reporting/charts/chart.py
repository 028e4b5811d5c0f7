"""A chart of the page, and the parts that charts share: legends, colours, reference lines.

Charts are Vega-Lite, built with Altair. Their colours are the page's CSS variables, so that a chart follows the page
from light to dark and to print.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import ArrayLike

VEGA_LITE = "6.4"
"""The version of Vega-Lite that draws the charts."""

SYSTEM_COLOURS = tuple(f"var(--system-{index})" for index in range(5))
# In addition to colour, for readers who do not see it: dash patterns.
_DASHES = ([1, 0], [7, 3], [2, 3], [9, 3, 2, 3])
# Points of a scatter plot: as many as a page can hold and a reader can distinguish.
_POINTS = 1500


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a name, a CSS colour, and the dash pattern of a line; none for areas and points."""

    name: str
    colour: str
    dash: Sequence[int] = ()


TRIALS = Key("trials", SYSTEM_COLOURS[0])
BONAFIDE, SPOOF = Key("bona fide", "var(--bonafide)"), Key("spoof", "var(--spoof)")


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
      title: of the chart.
      caption: how to read it, in one or two sentences.
      spec: Vega-Lite.
      head, rows: a table of its numbers.
      keys: its legend.
      wide: whether it takes the full width of the page.
    """

    title: str
    caption: str
    spec: dict[str, Any]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Sequence[Key] = ()
    wide: bool = False


@dataclass(frozen=True)
class CurveStyle:
    """How DET and ROC curves are drawn.

    Attributes:
      line: the width of a curve.
      dot: the area of an EER's dot.
      faint: the colour of the reference line.
      legend: of the chart; None where it is drawn elsewhere.
    """

    line: float = 2
    dot: float = 70
    faint: str = "var(--faint)"
    legend: alt.Legend | None = None


ON_PAGE = CurveStyle()


def system_key(index: int, name: str) -> Key:
    return Key(name, SYSTEM_COLOURS[index % len(SYSTEM_COLOURS)], _DASHES[index % len(_DASHES)])


def layered(layers: Sequence[alt.Chart], height: float = 280, **properties: Any) -> dict[str, Any]:
    """The Vega-Lite of layers on the same axes, as wide as the page's column."""
    spec: dict[str, Any] = alt.layer(*layers).properties(width="container", height=height, **properties).to_dict()
    # The page's own configuration applies.
    del spec["config"]
    return spec


def table(**columns: Any) -> alt.InlineData:
    """Inline data of columns: sequences of the same length; a column of one text is the same in each row."""
    length = max(len(column) for column in columns.values() if not isinstance(column, str))
    full = {name: [column] * length if isinstance(column, str) else column for name, column in columns.items()}
    return alt.InlineData([dict(zip(full, row, strict=True)) for row in zip(*full.values(), strict=True)])


def stacked(tables: Iterable[alt.InlineData]) -> alt.InlineData:
    """The rows of several tables, one after another."""
    return alt.InlineData([row for one in tables for row in one.values])


def rounded(values: ArrayLike, digits: int = 5) -> list[float]:
    """Numbers for JSON with as many significant digits as a chart can show."""
    return [float(f"{value:.{digits}g}") for value in np.asarray(values, np.float64)]


def colour(keys: Sequence[Key], field: str = "system", legend: alt.Legend | None = None) -> alt.Color:
    """Each key's colour. Without a legend, since the page draws its own."""
    scale = alt.Scale(domain=[key.name for key in keys], range=[key.colour for key in keys])
    return alt.Color(field, type="nominal", scale=scale, legend=legend)


def dash(keys: Sequence[Key], legend: alt.Legend | None = None) -> alt.StrokeDash:
    scale = alt.Scale(domain=[key.name for key in keys], range=[list(key.dash) for key in keys])
    return alt.StrokeDash("system", type="nominal", scale=scale, legend=legend)


def curve_lines(data: alt.InlineData, x: alt.X, y: alt.Y, keys: Sequence[Key], style: CurveStyle) -> alt.Chart:
    """The curve of each system, through its points in the order of the column `o`."""
    lines = alt.Chart(data).mark_line(clip=True, strokeWidth=style.line)
    return lines.encode(x, y, alt.Order("o:Q"), colour(keys, legend=style.legend), dash(keys, style.legend))


def eer_dots(data: alt.InlineData, x: alt.X, y: alt.Y, keys: Sequence[Key], style: CurveStyle) -> alt.Chart:
    """A dot at the EER of each system."""
    dots = alt.Chart(data).mark_point(clip=True, filled=True, size=style.dot, opacity=1)
    return dots.encode(x, y, colour(keys), tooltip=["system:N", "EER:N"])


def reference_line(data: alt.InlineData, colour: str = ON_PAGE.faint) -> alt.Chart:
    """A faint dotted line, such as the diagonal."""
    return alt.Chart(data).mark_line(clip=True, color=colour, strokeWidth=1, strokeDash=[2, 3])


def threshold_line(threshold: float) -> alt.Chart:
    """A dashed vertical line at a score."""
    mark = alt.Chart(table(t=[threshold])).mark_rule(color="var(--ink)", strokeDash=[4, 3], strokeWidth=1.2)
    return mark.encode(alt.X("t:Q"))


def percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def rows_to_draw(size: np.ndarray) -> np.ndarray:
    """Rows of a scatter plot: all where they are few; otherwise those of the largest `size`, and a sample of others."""
    if len(size) <= _POINTS:
        return np.arange(len(size))
    order = np.argsort(-size, kind="stable")
    largest, others = order[: _POINTS // 3], order[_POINTS // 3 :]
    chosen = np.random.default_rng(0).choice(others, _POINTS - len(largest), replace=False)
    return np.sort(np.concatenate([largest, chosen]))
