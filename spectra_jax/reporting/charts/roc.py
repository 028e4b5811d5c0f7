"""The ROC curve: bona fide trials accepted over spoofed trials accepted."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from spectra_jax.evaluation.evaluate import Evaluation
from spectra_jax.reporting import curves
from spectra_jax.reporting.charts.chart import (
    Chart,
    Key,
    colour,
    dash,
    layered,
    reference_line,
    rounded,
    stacked,
    table,
)

# Ends of the axis, in percent: the first that leaves room for four times the highest EER.
_CORNERS = (1, 2, 5, 10, 20, 40)


def roc(evaluations: Sequence[Evaluation], keys: Sequence[Key], found: Sequence[curves.Curve]) -> Chart:
    """The curves with their bands, in full or the corner in which good systems differ."""
    worst = max(one.eer_percent for one in evaluations)
    corner = next((end for end in _CORNERS if end >= 4 * worst), 100)
    x = alt.X("x:Q", title="false acceptance, %", scale=alt.Scale(domain=[0, corner]))
    y = alt.Y("y:Q", title="bona fide accepted, %", scale=alt.Scale(domain=[100 - corner, 100], zero=False))
    bands = [
        _band(key, curve).encode(x, y, alt.Y2("y2"), colour(keys))
        for key, curve in zip(keys, found, strict=True)
        if len(curve.grid)
    ]
    lines = stacked(_points(key, curve) for key, curve in zip(keys, found, strict=True))
    layers = [
        *bands,
        reference_line(table(x=[0, 100], y=[0, 100])).encode(x, y),
        alt.Chart(lines).mark_line(clip=True, strokeWidth=2).encode(x, y, alt.Order("o:Q"), colour(keys), dash(keys)),
    ]
    caption = "The share of bona fide trials accepted for each share of spoofed ones; upper left is better."
    if corner < 100:
        caption += f" Only that corner is shown, to {corner} %."
    rows = [(key.name, f"{one.auc:.4f}") for key, one in zip(keys, evaluations, strict=True)]
    return Chart("ROC curve", caption, layered(layers, 330), ("system", "AUC"), rows, keys)


def _band(key: Key, curve: curves.Curve) -> alt.Chart:
    grid, low, high = (rounded(100 * rates, 4) for rates in (curve.grid, 1 - curve.high, 1 - curve.low))
    return alt.Chart(table(x=grid, y=low, y2=high, system=key.name)).mark_area(clip=True, opacity=0.16)


def _points(key: Key, curve: curves.Curve) -> alt.InlineData:
    x, y = rounded(100 * curve.false_acceptance), rounded(100 * (1 - curve.false_rejection))
    return table(x=x, y=y, o=range(len(x)), system=key.name)
