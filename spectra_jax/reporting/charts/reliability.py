"""Reliability diagrams: the observed share of bona fide trials against the probability that the score states."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from spectra_jax.errors import MetricError
from spectra_jax.evaluation.metrics import fit_logistic
from spectra_jax.reporting import curves
from spectra_jax.reporting.charts.chart import Chart, Key, colour, layered, reference_line, stacked, table
from spectra_jax.reporting.systems import System


def reliability(systems: Sequence[System], keys: Sequence[Key]) -> list[Chart]:
    """Two charts: of scores taken as log-likelihood ratios, and of scores after a logistic calibration."""
    as_they_are, calibrated = [], []
    for key, system in zip(keys, systems, strict=True):
        scores, bonafide = system.scores.scores, system.bonafide
        assert bonafide is not None
        as_they_are.append((key, curves.reliability(scores, bonafide)))
        try:
            fitted = fit_logistic(scores[bonafide], scores[~bonafide])
        except MetricError:
            # Some scores, such as an untrained network's, have no logistic calibration with a positive slope.
            continue
        calibrated.append((key, curves.reliability(fitted.log_likelihood_ratio(scores), bonafide)))
    charts = [
        _chart(
            "Scores taken as log-likelihood ratios",
            "What Cllr and actDCF assume of a score.",
            as_they_are,
        )
    ]
    if calibrated:
        caption = "Fitted on these very trials: the best that calibration can reach, not what it will on others."
        charts.append(_chart("After logistic calibration", caption, calibrated))
    return charts


def _chart(title: str, caption: str, found: Sequence[tuple[Key, curves.Reliability]]) -> Chart:
    keys = [key for key, _ in found]
    unit = alt.Scale(domain=[0, 1])
    # Few enough labels for the width of a phone.
    axis = alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], labelOverlap="greedy", labelSeparation=6)
    x = alt.X("stated:Q", title="stated P(bona fide), even odds", scale=unit, axis=axis)
    y = alt.Y("observed:Q", title="observed share of bona fide", scale=unit, axis=axis)
    data = stacked(
        table(
            stated=[round(float(value), 4) for value in one.stated],
            observed=[round(float(value), 4) for value in one.observed],
            n=[int(n) for n in one.n],
            system=key.name,
        )
        for key, one in found
    )
    tooltip = ["system:N", "stated:Q", "observed:Q", alt.Tooltip("n:Q", title="trials")]
    line = alt.Chart(data).mark_line(strokeWidth=2, point=alt.OverlayMarkDef(filled=True, size=45))
    layers = [
        reference_line(table(stated=[0, 1], observed=[0, 1])).encode(x, y),
        line.encode(x, y, colour(keys), tooltip=tooltip),
    ]
    return Chart(
        title=title,
        caption=f"{caption} On the diagonal, the stated probability is the observed share.",
        spec=layered(layers, 250),
        head=("system", "stated", "observed", "trials"),
        rows=[
            (key.name, f"{stated:.4f}", f"{observed:.4f}", f"{n:,}")
            for key, one in found
            for stated, observed, n in zip(one.stated, one.observed, one.n, strict=True)
        ],
        keys=keys,
    )
