"""Charts by attack: EERs as bars, and where the scores of each attack lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np

from spectra_jax.evaluation.evaluate import Group
from spectra_jax.reporting import curves
from spectra_jax.reporting.charts.chart import (
    BONAFIDE,
    SPOOF,
    Chart,
    Key,
    colour,
    layered,
    rounded,
    stacked,
    table,
    threshold_line,
)
from spectra_jax.reporting.charts.histogram import score_bins
from spectra_jax.reporting.systems import System

# Attacks of a chart at most: the hardest ones.
_ATTACKS = 40


def attack_bars(keys: Sequence[Key], groups: Sequence[Mapping[str, Group]]) -> Chart:
    """The EER of each attack with all bona fide trials; `groups` are each system's, by attack."""
    # ASVspoof 5 calls the attack of a bona fide trial `bonafide`, which has no spoofed trials.
    attacks = [{name: group for name, group in own.items() if group.n_spoof} for own in groups]
    hardest: dict[str, float] = {}
    for own in attacks:
        hardest = {name: group.eer_percent for name, group in own.items()} | hardest
    order = sorted(hardest, key=lambda name: -hardest[name])[:_ATTACKS]
    data = stacked(_bars(key, own, order) for key, own in zip(keys, attacks, strict=True))
    x, low = alt.X("eer:Q", title="EER, %", axis=alt.Axis(tickCount=6)), alt.X("low:Q", title="EER, %")
    y = alt.Y("attack:N", title=None, sort=order)
    offset = alt.YOffset("system:N", sort=[key.name for key in keys])
    tooltip = ["attack:N", "system:N", alt.Tooltip("eer:Q", title="EER %", format=".3f")]
    bars = alt.Chart(data).mark_bar(opacity=0.6, height=alt.RelativeBandSize(band=0.8))
    intervals = alt.Chart(data).mark_rule(color="var(--ink)", strokeWidth=1.4)
    layers = [
        bars.encode(x, y, offset, colour(keys), tooltip=tooltip),
        intervals.encode(low.axis(tickCount=6), alt.X2("high"), y, offset),
    ]
    height = len(order) * (18 if len(keys) == 1 else 4 + 11 * len(keys))
    return Chart(
        title="EER by attack",
        caption="Each attack against all bona fide trials, hardest first. Lines: 95 % intervals.",
        spec=layered(layers, height),
        head=("attack", *(f"EER %, {key.name}" for key in keys), "trials"),
        rows=[
            [name, *(_cell(own.get(name)) for own in attacks), f"{_n_spoof(attacks[0].get(name)):,}"] for name in order
        ],
        keys=keys,
        wide=len(keys) > 1,
    )


def _bars(key: Key, groups: Mapping[str, Group], order: Sequence[str]) -> alt.InlineData:
    names = [name for name in groups if name in order]
    rates = [groups[name].eer_percent for name in names]
    intervals = [groups[name].interval for name in names]
    return table(
        attack=names,
        system=key.name,
        eer=rates,
        low=[one.low if one else rate for one, rate in zip(intervals, rates, strict=True)],
        high=[one.high if one else rate for one, rate in zip(intervals, rates, strict=True)],
    )


def _cell(group: Group | None) -> str:
    if group is None:
        return "-"
    interval = f" ({group.interval.low:.3f} to {group.interval.high:.3f})" if group.interval else ""
    return f"{group.eer_percent:.3f}{interval}"


def _n_spoof(group: Group | None) -> int:
    return 0 if group is None else group.n_spoof


def attack_strips(system: System) -> Chart:
    """The distribution of each attack's scores, one strip per attack below that of the bona fide trials."""
    scores, bonafide, attacks = system.scores.scores, system.bonafide, system.attacks
    assert bonafide is not None and attacks is not None
    edges = curves.bin_edges(scores, 48)
    strips = [(BONAFIDE, "bona fide", bonafide)]
    strips += [(SPOOF, name, attacks == name) for name in _highest_first(scores, attacks)[:_ATTACKS]]
    data = stacked(_strip(key, name, curves.shares(scores[members], edges), edges) for key, name, members in strips)
    names = [name for _, name, _ in strips]
    y = alt.Y("attack:N", title=None, sort=names, scale=alt.Scale(paddingInner=0.25))
    opacity = alt.Opacity("w:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 1]), legend=None)
    tooltip = ["attack:N", alt.Tooltip("a:Q", title="from", format=".3f"), alt.Tooltip("share:Q", title="%")]
    keys = [BONAFIDE, SPOOF]
    cells = alt.Chart(data).mark_rect(binSpacing=0)
    x = score_bins(edges, grid=False)
    layers = [cells.encode(x, alt.X2("b"), y, colour(keys, "class"), opacity, tooltip=tooltip)]
    if system.evaluation:
        layers.append(threshold_line(system.evaluation.threshold))
    return Chart(
        title=f"Scores by attack, {system.name}",
        caption="The stronger a colour, the more of the attack's trials. Scores right of the dashed threshold are "
        "accepted as bona fide.",
        spec=layered(layers, 19 * len(strips)),
        head=("attack", "trials", "lower quartile", "median", "upper quartile"),
        rows=[
            [name, f"{members.sum():,}", *(f"{q:.4f}" for q in np.quantile(scores[members], [0.25, 0.5, 0.75]))]
            for _, name, members in strips
        ],
        keys=keys,
    )


def _strip(key: Key, name: str, share: np.ndarray, edges: np.ndarray) -> alt.InlineData:
    weight = rounded(share / share.max(), 3)
    shown = np.flatnonzero(weight)
    return table(
        a=rounded(edges[:-1][shown]),
        b=rounded(edges[1:][shown]),
        w=[weight[index] for index in shown],
        attack=name,
        share=rounded(100 * share[shown], 3),
        **{"class": key.name},
    )


def _highest_first(scores: np.ndarray, attacks: np.ndarray) -> list[str]:
    """Attacks in the order of their mean scores, the highest first."""
    return sorted(sorted(set(attacks) - {""}), key=lambda name: -float(scores[attacks == name].mean()))
