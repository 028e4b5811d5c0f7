"""The histogram of differences between two systems' scores."""

from __future__ import annotations

import altair as alt
import numpy as np

from spectra_jax.evaluation.compare import Comparison
from spectra_jax.reporting import curves
from spectra_jax.reporting.charts.chart import TRIALS, Chart, layered, rounded, table
from spectra_jax.reporting.charts.histogram import score_bins

# Rows of the table at most, about.
_ROWS = 15


def differences(comparison: Comparison) -> Chart:
    """How far the systems' scores lie apart."""
    edges = curves.bin_edges(comparison.differences, 50)
    share = 100 * curves.shares(comparison.differences, edges)
    data = table(a=rounded(edges[:-1]), b=rounded(edges[1:]), share=rounded(share, 4))
    x = score_bins(edges, "difference of the scores", tickCount=5, format="~g" if np.ptp(edges) > 1e-3 else ".0e")
    bars = alt.Chart(data).mark_bar(binSpacing=0, color=TRIALS.colour, opacity=0.7)
    step = max(1, len(share) // _ROWS)
    return Chart(
        title="Differences",
        caption=f"{comparison.name_a} minus {comparison.name_b}; the end bins also hold what lies beyond them.",
        spec=layered([bars.encode(x, alt.X2("b"), alt.Y("share:Q", title="% of the trials"))]),
        head=("difference", "% of the trials"),
        rows=[
            (f"{edges[i]:.3g} to {edges[min(i + step, len(share))]:.3g}", f"{share[i : i + step].sum():.2f}")
            for i in range(0, len(share), step)
        ],
    )
