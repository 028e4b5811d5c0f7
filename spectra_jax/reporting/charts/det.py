"""The DET curve: false rejection over false acceptance on normal-deviate axes."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

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
    percent,
    reference_line,
    rounded,
    stacked,
    table,
)

_TICKS = (*(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1), *(0.2, 0.4, 0.6, 0.8, 0.9, 0.95))
# Rows of the table: rates of false acceptance.
_RATES = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


def det(evaluations: Sequence[Evaluation], keys: Sequence[Key], found: Sequence[curves.Curve]) -> Chart:
    """The chart of the page."""
    with_bands = len(found[0].grid) > 0
    return Chart(
        title="DET curve",
        caption="Both errors as the threshold moves, on normal-deviate axes; lower left is better. Dots: EER."
        + (" Bands: 95 % intervals." if with_bands else ""),
        spec=layered(det_layers(evaluations, keys, found), 330),
        head=["false acceptance", *(f"false rejection, {key.name}" for key in keys)],
        rows=_rows(found),
        keys=keys,
    )


def det_layers(
    evaluations: Sequence[Evaluation], keys: Sequence[Key], found: Sequence[curves.Curve], style: CurveStyle = ON_PAGE
) -> list[alt.Chart]:
    """The bands of curves that have one, the diagonal, the curves, and a dot at each EER."""
    low, high = _limits(evaluations)
    x, y = _axes(low, high)
    ends = rounded(curves.probit([low, high]))
    pairs = list(zip(keys, found, strict=True))
    return [
        *(_band(key, curve).encode(x, y, alt.Y2("y2"), colour(keys)) for key, curve in pairs if len(curve.grid)),
        reference_line(table(x=ends, y=ends), style.faint).encode(x, y),
        curve_lines(stacked(_points(key, curve) for key, curve in pairs), x, y, keys, style),
        eer_dots(stacked(_eer(key, one) for key, one in zip(keys, evaluations, strict=True)), x, y, keys, style),
    ]


def _limits(evaluations: Sequence[Evaluation]) -> tuple[float, float]:
    """The rates at the ends of both axes: from half a trial to beyond the highest EER."""
    fewest = max(min(one.n_bonafide, one.n_spoof) for one in evaluations)
    worst = max(one.eer_percent for one in evaluations) / 100
    return float(np.clip(0.5 / fewest, 1e-4, 0.05)), float(np.clip(3 * worst, 0.5, 0.97))


def _axes(low: float, high: float) -> tuple[alt.X, alt.Y]:
    scale = alt.Scale(domain=rounded(curves.probit([low, high])), zero=False, nice=False)
    ticks = [rate for rate in _TICKS if low <= rate <= high]
    values = rounded(curves.probit(ticks))
    # Vega-Lite has no normal-deviate scale: deviates are drawn, and ticks labelled with their rates.
    names = ",".join(f"'{round(1000 * value)}':'{100 * rate:g}'" for value, rate in zip(values, ticks, strict=True))
    axis = alt.Axis(values=values, labelOverlap="greedy", labelExpr=f"{{{names}}}['' + round(1000 * datum.value)]")
    return (
        alt.X("x:Q", scale=scale, axis=axis, title="false acceptance, %"),
        alt.Y("y:Q", scale=scale, axis=axis, title="false rejection, %"),
    )


def _band(key: Key, curve: curves.Curve) -> alt.Chart:
    grid, low, high = (rounded(curves.probit(rates), 4) for rates in (curve.grid, curve.low, curve.high))
    return alt.Chart(table(x=grid, y=low, y2=high, system=key.name)).mark_area(clip=True, opacity=0.16, line=False)


def _points(key: Key, curve: curves.Curve) -> alt.InlineData:
    x, y = (rounded(curves.probit(rates)) for rates in (curve.false_acceptance, curve.false_rejection))
    return table(x=x, y=y, o=range(len(x)), system=key.name)


def _eer(key: Key, evaluation: Evaluation) -> alt.InlineData:
    deviate = float(curves.probit(evaluation.eer_percent / 100))
    return table(x=[deviate], y=[deviate], system=key.name, EER=f"{evaluation.eer_percent:.3f} %")


def _rows(found: Sequence[curves.Curve]) -> list[list[str]]:
    columns = [curves.at_false_acceptance(curve, _RATES) for curve in found]
    return [
        [f"{100 * rate:g} %", *(_cell(*(values[index] for values in column)) for column in columns)]
        for index, rate in enumerate(_RATES)
    ]


def _cell(rate: float, low: float, high: float) -> str:
    return percent(rate) + ("" if np.isnan(low) else f" ({100 * low:.2f} to {100 * high:.2f})")
