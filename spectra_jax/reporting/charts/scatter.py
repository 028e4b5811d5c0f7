"""Scatter plots of two systems: score against score, and difference against rank gap."""

from __future__ import annotations

import altair as alt
import numpy as np

from spectra_jax.evaluation.compare import Comparison
from spectra_jax.reporting.charts.chart import (
    SYSTEM_COLOURS,
    Chart,
    Key,
    colour,
    layered,
    reference_line,
    rounded,
    rows_to_draw,
    table,
)
from spectra_jax.reporting.charts.histogram import score_classes

_WITHIN = Key("within the tolerance", SYSTEM_COLOURS[0])
_EXPLAINED = Key("explained by a near tie", "var(--explained)")
_UNEXPLAINED = Key("unexplained", "var(--alarm)")
# Equal scores, gaps of 0, and the bound 0 of two files with the same gaps have no logarithm: they are drawn here.
_LEAST_DIFFERENCE, _LEAST_GAP = 1e-9, 1e-12


def score_scatter(comparison: Comparison, bonafide: np.ndarray | None) -> Chart:
    """One system's scores over the other's, by class where it is known, (n,) bool."""
    rows, n = rows_to_draw(np.abs(comparison.differences)), len(comparison.utterance_ids)
    classes = score_classes(bonafide, n)
    keys = [key for key, _ in classes]
    names = np.select([members for _, members in classes], [key.name for key in keys], "")
    data = table(
        a=rounded(comparison.scores_a[rows], 6),
        b=rounded(comparison.scores_b[rows], 6),
        id=list(map(str, comparison.utterance_ids[rows])),
        **{"class": list(map(str, names[rows]))},
    )
    both = np.concatenate([comparison.scores_a, comparison.scores_b])
    ends = rounded([both.min(), both.max()])
    a, b = comparison.name_a, comparison.name_b
    x = alt.X("a:Q", title=f"score of {a}", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    y = alt.Y("b:Q", title=f"score of {b}", scale=alt.Scale(zero=False))
    tooltip = ["id:N", "class:N", alt.Tooltip("a:Q", title=a), alt.Tooltip("b:Q", title=b)]
    points = alt.Chart(data).mark_point(filled=True, size=22, opacity=0.5)
    layers = [
        reference_line(table(a=ends, b=ends)).encode(x, y),
        points.encode(x, y, colour(keys, "class"), tooltip=tooltip),
    ]
    sampled = f"{len(rows):,} of {n:,} trials, including those that differ most. " if len(rows) < n else ""
    return Chart(
        title="Score against score",
        caption=f"{sampled}On the diagonal, both scores are equal.",
        spec=layered(layers),
        head=("id", a, b),
        rows=[(trial.utterance_id, f"{trial.a:.6f}", f"{trial.b:.6f}") for trial in comparison.worst],
        keys=keys,
    )


def gap_scatter(comparison: Comparison, title: str = "Differences against rank gaps") -> Chart:
    """|difference| over the smallest rank gap, both logarithmic, with the bound of near ties and the tolerance."""
    size = np.abs(comparison.differences)
    with_gap = np.flatnonzero(np.isfinite(comparison.rank_gaps))
    least = max(float(size[size > 0].min()) / 2 if size.any() else _LEAST_DIFFERENCE, _LEAST_DIFFERENCE)
    keys = [_WITHIN, _EXPLAINED, _UNEXPLAINED]
    kind = np.select([comparison.unexplained, comparison.explained], [_UNEXPLAINED.name, _EXPLAINED.name], _WITHIN.name)
    rows = with_gap[rows_to_draw(size[with_gap])]
    data = table(
        gap=rounded(np.maximum(comparison.rank_gaps[rows], _LEAST_GAP), 4),
        size=[max(value, least) for value in rounded(size[rows], 4)],
        kind=list(map(str, kind[rows])),
        id=list(map(str, comparison.utterance_ids[rows])),
    )
    logarithmic, axis = alt.Scale(type="log"), alt.Axis(format=".0e", tickCount=5)
    x = alt.X("gap:Q", title="smallest rank gap", scale=logarithmic, axis=axis)
    y = alt.Y("size:Q", title="|difference|", scale=logarithmic, axis=axis)
    shapes = alt.Scale(domain=[key.name for key in keys], range=["circle", "diamond", "cross"])
    tooltip = ["id:N", "gap:Q", alt.Tooltip("size:Q", title="|difference|"), "kind:N"]
    points = alt.Chart(data).mark_point(filled=True, size=42, opacity=0.75)
    layers = [
        _bound(gap=max(comparison.gap_bound, _LEAST_GAP)).encode(x),
        _bound(size=max(comparison.tolerance, least)).encode(y),
        points.encode(x, y, colour(keys, "kind"), alt.Shape("kind:N", scale=shapes, legend=None), tooltip=tooltip),
    ]
    return Chart(
        title=title,
        caption=(
            f"Dashed: the bound {comparison.gap_bound:.2g}, below which a gap can close under rounding, and the "
            f"tolerance {comparison.tolerance:g}. Near ties can explain differences at the upper left; those at the "
            "upper right are the systems' own."
        ),
        spec=layered(layers, 320),
        head=("", "trials"),
        rows=[(key.name, f"{(kind[with_gap] == key.name).sum():,}") for key in keys],
        keys=keys,
        wide=True,
    )


def _bound(**position: float) -> alt.Chart:
    data = table(**{name: [value] for name, value in position.items()})
    return alt.Chart(data).mark_rule(color="var(--ink)", strokeDash=[4, 3])
