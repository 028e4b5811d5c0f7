"""Histograms of a system's scores by class."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from spectra_jax.reporting import curves
from spectra_jax.reporting.charts.chart import (
    BONAFIDE,
    SPOOF,
    TRIALS,
    Chart,
    Key,
    colour,
    layered,
    rounded,
    stacked,
    table,
    threshold_line,
)
from spectra_jax.reporting.systems import System

# Rows of the table at most, about.
_ROWS = 20


def histogram(system: System) -> Chart:
    """A system's scores by class, with the threshold of the EER."""
    scores = system.scores.scores
    edges = curves.bin_edges(scores)
    classes = score_classes(system.bonafide, len(scores))
    keys = [Key(f"{key.name} ({members.sum():,})", key.colour) for key, members in classes]
    shares = [100 * curves.shares(scores[members], edges) for _, members in classes]
    data = stacked(
        table(a=rounded(edges[:-1]), b=rounded(edges[1:]), share=rounded(share, 4), **{"class": key.name})
        for key, share in zip(keys, shares, strict=True)
    )
    y = alt.Y("share:Q", title="% of the class").stack(None)
    tooltip = [
        alt.Tooltip("class:N"),
        alt.Tooltip("a:Q", title="from", format=".3f"),
        alt.Tooltip("share:Q", title="%", format=".2f"),
    ]
    bars = alt.Chart(data).mark_bar(opacity=0.55, binSpacing=0)
    layers = [bars.encode(score_bins(edges), alt.X2("b"), y, colour(keys, "class"), tooltip=tooltip)]
    caption = "Scores of every trial."
    if system.evaluation:
        threshold = system.evaluation.threshold
        layers.append(threshold_line(threshold))
        caption = f"Share of each class by score. The dashed line is the threshold of the EER, {threshold:.4f}."
    step = max(1, len(edges) // _ROWS)
    rows = [
        [f"{edges[i]:.3f} to {edges[min(i + step, len(edges) - 1)]:.3f}"]
        + [f"{share[i : i + step].sum():.2f}" for share in shares]
        for i in range(0, len(edges) - 1, step)
    ]
    head = ["score", *(f"{key.name}, %" for key, _ in classes)]
    return Chart(f"Scores of {system.name}", caption, layered(layers, 220), head, rows, keys)


def score_bins(edges: np.ndarray, title: str = "score", **axis: Any) -> alt.X:
    """The axis of bins whose lower ends are the column `a`."""
    scale = alt.Scale(zero=False, nice=False, domain=rounded(edges[[0, -1]]))
    return alt.X("a:Q", title=title, axis=alt.Axis(**{"tickCount": 6, **axis}), scale=scale).bin("binned")


def score_classes(bonafide: np.ndarray | None, n: int) -> list[tuple[Key, np.ndarray]]:
    """The classes that `n` trials have, each with its trials, (n,) bool; all trials where their class is unknown."""
    if bonafide is None:
        return [(TRIALS, np.ones(n, bool))]
    return [(key, members) for key, members in ((BONAFIDE, bonafide), (SPOOF, ~bonafide)) if members.any()]
