"""The ROC curve: bona fide trials accepted over spoofed trials accepted."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from spectra_jax.evaluation.evaluate import Evaluation
from spectra_jax.reporting import curves
from spectra_jax.reporting.charts.chart import (
    ON_PAGE,
    Chart,
    CurveStyle,
    Key,
    colour,
    curve_lines,
    eer_dots,
    layered,
    reference_line,
    rounded,
    stacked,
    table,
)

# Ends of the axis, in percent: the first that leaves room for four times the highest EER.
_CORNERS = (1, 2, 5, 10, 20, 40)


def roc(evaluations: Sequence[Evaluation], keys: Sequence[Key], found: Sequence[curves.Curve]) -> Chart:
    """The chart of the page, in full or only the corner in which good systems differ."""
    worst = max(one.eer_percent for one in evaluations)
    corner = next((end for end in _CORNERS if end >= 4 * worst), 100)
    x, y = _axes(corner)
    caption = "The share of bona fide trials accepted for each share of spoofed ones; upper left is better."
    if corner < 100:
        caption += f" Only that corner is shown, to {corner} %."
    rows = [(key.name, f"{one.auc:.4f}") for key, one in zip(keys, evaluations, strict=True)]
    return Chart("ROC curve", caption, layered(_layers(x, y, keys, found, ON_PAGE), 330), ("system", "AUC"), rows, keys)


def roc_layers(
    evaluations: Sequence[Evaluation], keys: Sequence[Key], found: Sequence[curves.Curve], style: CurveStyle
) -> list[alt.Chart]:
    """The full curves, with a dot at each EER."""
    x, y = _axes(corner=100)
    eers = stacked(_eer(key, one) for key, one in zip(keys, evaluations, strict=True))
    return [*_layers(x, y, keys, found, style), eer_dots(eers, x, y, keys, style)]


def _axes(corner: float) -> tuple[alt.X, alt.Y]:
    return (
        alt.X("x:Q", title="false acceptance, %", scale=alt.Scale(domain=[0, corner])),
        alt.Y("y:Q", title="bona fide accepted, %", scale=alt.Scale(domain=[100 - corner, 100], zero=False)),
    )


def _layers(
    x: alt.X, y: alt.Y, keys: Sequence[Key], found: Sequence[curves.Curve], style: CurveStyle
) -> list[alt.Chart]:
    pairs = list(zip(keys, found, strict=True))
    return [
        *(_band(key, curve).encode(x, y, alt.Y2("y2"), colour(keys)) for key, curve in pairs if len(curve.grid)),
        reference_line(table(x=[0, 100], y=[0, 100]), style.faint).encode(x, y),
        curve_lines(stacked(_points(key, curve) for key, curve in pairs), x, y, keys, style),
    ]


def _band(key: Key, curve: curves.Curve) -> alt.Chart:
    grid, low, high = (rounded(100 * rates, 4) for rates in (curve.grid, 1 - curve.high, 1 - curve.low))
    return alt.Chart(table(x=grid, y=low, y2=high, system=key.name)).mark_area(clip=True, opacity=0.16)


def _points(key: Key, curve: curves.Curve) -> alt.InlineData:
    x, y = rounded(100 * curve.false_acceptance), rounded(100 * (1 - curve.false_rejection))
    return table(x=x, y=y, o=range(len(x)), system=key.name)


def _eer(key: Key, evaluation: Evaluation) -> alt.InlineData:
    rate = evaluation.eer_percent
    return table(x=[rate], y=[100 - rate], system=key.name, EER=f"{rate:.3f} %")
