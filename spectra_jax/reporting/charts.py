"""Charts in Vega-Lite, each with a sentence for a screen reader and its numbers as a table.

Colours are the page's own (CSS variables), so that a chart follows it from light to dark and onto paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.compare import Comparison
from spectra_jax.reporting import curves
from spectra_jax.reporting.systems import ATTACK, System

Spec = dict[str, Any]

BONAFIDE, SPOOF = "var(--bonafide)", "var(--spoof)"
_SYSTEM_COLOURS = 5
# Besides the colour, for those who see none: dash patterns.
_DASHES = ([1, 0], [7, 3], [2, 3], [9, 3, 2, 3])
_TICKS = (*(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1), *(0.2, 0.4, 0.6, 0.8, 0.9, 0.95))
_RATES = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
# Points of a scatter that a page can hold and an eye tell apart.
_POINTS = 1500
_ATTACKS = 40


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a name, a CSS colour, and a line's dash pattern, or none for areas and points."""

    name: str
    colour: str
    dash: Sequence[int] = ()


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
      title: what is drawn.
      caption: what to see in it, in a sentence or two.
      spec: Vega-Lite.
      head, rows: its numbers.
      keys: its legend.
    """

    title: str
    caption: str
    spec: Spec
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Sequence[Key] = ()
    wide: bool = field(default=False)


def system_key(place: int, name: str) -> Key:
    return Key(name, f"var(--system-{place % _SYSTEM_COLOURS})", _DASHES[place % len(_DASHES)])


def percent(rate: float, digits: int = 2) -> str:
    return f"{100 * rate:.{digits}f} %"


def _plain(values: Any, digits: int = 5) -> list[float]:
    """Numbers as JSON needs them, no longer than a chart can show."""
    return [float(f"{value:.{digits}g}") for value in np.asarray(values, np.float64)]


def _colour(keys: Sequence[Key], name: str = "system") -> Spec:
    scale = {"domain": [key.name for key in keys], "range": [key.colour for key in keys]}
    return {"field": name, "type": "nominal", "scale": scale, "legend": None}


def _dash(keys: Sequence[Key]) -> Spec:
    scale = {"domain": [key.name for key in keys], "range": [list(key.dash) for key in keys]}
    return {"field": "system", "type": "nominal", "scale": scale, "legend": None}


def _chart(layers: Sequence[Spec], height: int = 280, **rest: Any) -> Spec:
    return {"width": "container", "height": height, "layer": list(layers), **rest}


def det(systems: Sequence[System], found: Sequence[curves.Curve]) -> Chart:
    """False rejection over false acceptance on normal-deviate axes, with bands and the EERs."""
    keys = [system_key(place, system.name) for place, system in enumerate(systems)]
    numbers = [system.evaluation.numbers for system in systems if system.evaluation]
    fewest = max(min(row["n_bonafide"], row["n_spoof"]) for row in numbers)
    low = float(np.clip(0.5 / fewest, 1e-4, 0.05))
    high = float(np.clip(3 * max(row["eer_percent"] for row in numbers) / 100, 0.5, 0.97))
    ends = _plain(curves.probit([low, high]))
    scale = {"domain": ends, "zero": False, "nice": False}
    ticks = [rate for rate in _TICKS if low <= rate <= high]
    at = _plain(curves.probit(ticks))
    # Vega-Lite knows no normal deviates: each tick is told its name.
    names = ",".join(f"'{round(1000 * place)}':'{100 * rate:g}'" for place, rate in zip(at, ticks, strict=True))
    axis = {"values": at, "labelOverlap": "greedy", "labelExpr": f"{{{names}}}['' + round(1000 * datum.value)]"}

    def position(name: str, title: str) -> Spec:
        return {"field": name, "type": "quantitative", "scale": scale, "axis": {**axis, "title": title}}

    x, y = position("x", "false acceptance, %"), position("y", "false rejection, %")
    layers: list[Spec] = []
    for key, one in zip(keys, found, strict=True):
        if not len(one.grid):
            continue
        at_grid, bottom, top = (_plain(curves.probit(v), 4) for v in (one.grid, one.low, one.high))
        values = [{"x": a, "y": b, "y2": c, "system": key.name} for a, b, c in zip(at_grid, bottom, top, strict=True)]
        band = {"type": "area", "clip": True, "opacity": 0.16, "line": False}
        layers.append(
            {
                "data": {"values": values},
                "mark": band,
                "encoding": {"x": x, "y": y, "y2": {"field": "y2"}, "color": _colour(keys)},
            }
        )
    diagonal = [{"x": end, "y": end} for end in ends]
    layers.append(
        {
            "data": {"values": diagonal},
            "mark": {"type": "line", "color": "var(--faint)", "strokeWidth": 1, "strokeDash": [2, 3]},
            "encoding": {"x": x, "y": y},
        }
    )
    values = []
    for key, one in zip(keys, found, strict=True):
        far, frr = _plain(curves.probit(one.false_acceptance)), _plain(curves.probit(one.false_rejection))
        values += [{"x": a, "y": b, "o": o, "system": key.name} for o, (a, b) in enumerate(zip(far, frr, strict=True))]
    layers.append(
        {
            "data": {"values": values},
            "mark": {"type": "line", "clip": True, "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "order": {"field": "o"}, "color": _colour(keys), "strokeDash": _dash(keys)},
        }
    )
    points = []
    for key, row in zip(keys, numbers, strict=True):
        place = float(curves.probit(row["eer_percent"] / 100))
        points.append({"x": place, "y": place, "system": key.name, "EER": f"{row['eer_percent']:.3f} %"})
    layers.append(
        {
            "data": {"values": points},
            "mark": {"type": "point", "clip": True, "filled": True, "size": 70, "opacity": 1},
            "encoding": {
                "x": x,
                "y": y,
                "color": _colour(keys),
                "tooltip": [{"field": "system"}, {"field": "EER"}],
            },
        }
    )
    head, rows = _rate_rows(systems, found)
    band_note = " Bands: 95 % intervals." if len(found[0].grid) else ""
    return Chart(
        "DET curve",
        f"Both errors as the threshold moves, on normal-deviate axes; lower left is better. Dots: EER.{band_note}",
        _chart(layers, 330),
        head,
        rows,
        keys,
    )


def roc(systems: Sequence[System], found: Sequence[curves.Curve]) -> Chart:
    """Detection over false acceptance: the whole of it, or the corner where good systems differ."""
    keys = [system_key(place, system.name) for place, system in enumerate(systems)]
    worst = max(system.evaluation.numbers["eer_percent"] for system in systems if system.evaluation)
    corner = next((end for end in (1, 2, 5, 10, 20, 40) if end >= 4 * worst), 100)
    x: Spec = {"field": "x", "type": "quantitative", "title": "false acceptance, %", "scale": {"domain": [0, corner]}}
    y: Spec = {
        "field": "y",
        "type": "quantitative",
        "title": "bona fide accepted, %",
        "scale": {"domain": [100 - corner, 100], "zero": False},
    }
    layers: list[Spec] = []
    for key, one in zip(keys, found, strict=True):
        if len(one.grid):
            columns = (_plain(100 * v, 4) for v in (one.grid, 1 - one.high, 1 - one.low))
            values = [{"x": a, "y": b, "y2": c, "system": key.name} for a, b, c in zip(*columns, strict=True)]
            encoding = {"x": x, "y": y, "y2": {"field": "y2"}, "color": _colour(keys)}
            layers.append(
                {
                    "data": {"values": values},
                    "mark": {"type": "area", "clip": True, "opacity": 0.16},
                    "encoding": encoding,
                }
            )
    layers.append(
        {
            "data": {"values": [{"x": 0, "y": 0}, {"x": 100, "y": 100}]},
            "mark": {"type": "line", "clip": True, "color": "var(--faint)", "strokeWidth": 1, "strokeDash": [2, 3]},
            "encoding": {"x": x, "y": y},
        }
    )
    values = []
    for key, one in zip(keys, found, strict=True):
        pairs = zip(_plain(100 * one.false_acceptance), _plain(100 * (1 - one.false_rejection)), strict=True)
        values += [{"x": a, "y": b, "o": o, "system": key.name} for o, (a, b) in enumerate(pairs)]
    layers.append(
        {
            "data": {"values": values},
            "mark": {"type": "line", "clip": True, "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "order": {"field": "o"}, "color": _colour(keys), "strokeDash": _dash(keys)},
        }
    )
    rows = [(system.name, f"{system.evaluation.numbers['auc']:.4f}") for system in systems if system.evaluation]
    caption = "The share of bona fide trials accepted for each share of spoofed ones; upper left is better."
    if corner < 100:
        caption += f" Only that corner is shown, to {corner} %."
    return Chart("ROC curve", caption, _chart(layers, 330), ("system", "AUC"), rows, keys)


def _rate_rows(systems: Sequence[System], found: Sequence[curves.Curve]) -> tuple[list[str], list[list[str]]]:
    rows = []
    columns = [curves.at_false_acceptance(one, _RATES) for one in found]
    for place, rate in enumerate(_RATES):
        cells = [f"{100 * rate:g} %"]
        for middle, low, high in columns:
            interval = "" if np.isnan(low[place]) else f" ({100 * low[place]:.2f} to {100 * high[place]:.2f})"
            cells.append(percent(middle[place]) + interval)
        rows.append(cells)
    return ["false acceptance", *(f"false rejection, {system.name}" for system in systems)], rows


def histogram(system: System) -> Chart:
    """A system's scores by class, with the threshold of the EER."""
    scores, bonafide = system.scores.scores, system.bonafide
    edges = curves.bin_edges(scores)
    classes = [("trials", np.ones(len(scores), bool), "var(--system-0)")]
    if bonafide is not None:
        classes = [("bona fide", bonafide, BONAFIDE), ("spoof", ~bonafide, SPOOF)]
        classes = [row for row in classes if row[1].any()]
    keys = [Key(f"{name} ({members.sum():,})", colour) for name, members, colour in classes]
    values, columns = [], []
    for key, (_, members, _) in zip(keys, classes, strict=True):
        share = 100 * curves.shares(scores[members], edges)
        columns.append(share)
        values += [
            {"a": a, "b": b, "share": s, "class": key.name}
            for a, b, s in zip(_plain(edges[:-1]), _plain(edges[1:]), _plain(share, 4), strict=True)
        ]
    layers: list[Spec] = [
        {
            "data": {"values": values},
            "mark": {"type": "bar", "opacity": 0.55, "binSpacing": 0},
            "encoding": {
                "x": {
                    "field": "a",
                    "type": "quantitative",
                    "bin": {"binned": True},
                    "title": "score",
                    "axis": {"tickCount": 6},
                    "scale": {"zero": False, "nice": False, "domain": _plain(edges[[0, -1]])},
                },
                "x2": {"field": "b"},
                "y": {"field": "share", "type": "quantitative", "title": "% of the class", "stack": None},
                "color": _colour(keys, "class"),
                "tooltip": [
                    {"field": "class"},
                    {"field": "a", "title": "from", "format": ".3f"},
                    {"field": "share", "title": "%", "format": ".2f"},
                ],
            },
        }
    ]
    caption = "Scores of every trial."
    if system.evaluation:
        threshold = system.evaluation.numbers["threshold"]
        layers.append(
            {
                "data": {"values": [{"t": threshold}]},
                "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3], "strokeWidth": 1.2},
                "encoding": {"x": {"field": "t", "type": "quantitative"}},
            }
        )
        caption = f"Share of each class by score. The dashed line is the threshold of the EER, {threshold:.4f}."
    step = max(1, len(edges) // 20)
    rows = [
        [f"{edges[i]:.3f} to {edges[min(i + step, len(edges) - 1)]:.3f}"]
        + [f"{share[i : i + step].sum():.2f}" for share in columns]
        for i in range(0, len(edges) - 1, step)
    ]
    head = ["score", *(f"{name}, %" for name, *_ in classes)]
    return Chart(f"Scores of {system.name}", caption, _chart(layers, 220), head, rows, keys)


def attack_strips(system: System) -> Chart:
    """Where the scores of each attack lie, a strip an attack, the bona fide trials on top."""
    scores, bonafide, attacks = system.scores.scores, system.bonafide, system.attacks
    assert bonafide is not None and attacks is not None
    edges = curves.bin_edges(scores, 48)
    names = _by_mean(scores, attacks)[:_ATTACKS]
    groups = [("bona fide", bonafide), *((name, attacks == name) for name in names)]
    groups = [(name, members) for name, members in groups if members.any()]
    values, rows = [], []
    for name, members in groups:
        share = curves.shares(scores[members], edges)
        own = "bona fide" if name == "bona fide" else "spoof"
        values += [
            {"a": a, "b": b, "w": w, "class": own, "attack": name, "share": s}
            for a, b, w, s in zip(
                *(_plain(edges[:-1]), _plain(edges[1:]), _plain(share / share.max(), 3), _plain(100 * share, 3)),
                strict=True,
            )
            if w
        ]
        quartiles = np.quantile(scores[members], [0.25, 0.5, 0.75])
        rows.append([name, f"{members.sum():,}", *(f"{value:.4f}" for value in quartiles)])
    keys = [Key("bona fide", BONAFIDE), Key("spoof", SPOOF)]
    layer: Spec = {
        "data": {"values": values},
        "mark": {"type": "rect", "binSpacing": 0},
        "encoding": {
            "x": {
                "field": "a",
                "type": "quantitative",
                "bin": {"binned": True},
                "title": "score",
                "axis": {"grid": False, "tickCount": 6},
                "scale": {"zero": False, "nice": False, "domain": _plain(edges[[0, -1]])},
            },
            "x2": {"field": "b"},
            "y": {
                "field": "attack",
                "type": "nominal",
                "title": None,
                "sort": [name for name, _ in groups],
                "scale": {"paddingInner": 0.25},
            },
            "color": _colour(keys, "class"),
            "opacity": {
                "field": "w",
                "type": "quantitative",
                "scale": {"domain": [0, 1], "range": [0.04, 1]},
                "legend": None,
            },
            "tooltip": [
                {"field": "attack"},
                {"field": "a", "title": "from", "format": ".3f"},
                {"field": "share", "title": "%"},
            ],
        },
    }
    layers = [layer]
    if system.evaluation:
        layers.append(
            {
                "data": {"values": [{"t": system.evaluation.numbers["threshold"]}]},
                "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3], "strokeWidth": 1.2},
                "encoding": {"x": {"field": "t", "type": "quantitative"}},
            }
        )
    caption = "Darker: more of the attack's trials. What lies right of the dashed threshold is taken for bona fide."
    head = ("attack", "trials", "lower quartile", "median", "upper quartile")
    return Chart(f"Scores by attack, {system.name}", caption, _chart(layers, 19 * len(groups)), head, rows, keys)


def _by_mean(scores: np.ndarray, attacks: np.ndarray) -> list[str]:
    """Attacks, those that score highest first."""
    names = sorted(set(attacks) - {""})
    return sorted(names, key=lambda name: -float(scores[attacks == name].mean()))


def attack_bars(systems: Sequence[System]) -> Chart:
    """EER of each attack against all bona fide trials, with intervals."""
    groups = [
        (place, system.name, system.evaluation.numbers.get("groups", {}).get(ATTACK, {}))
        for place, system in enumerate(systems)
        if system.evaluation
    ]
    groups = [row for row in groups if row[2]]
    keys = [system_key(place, name) for place, name, _ in groups]
    values: list[Spec] = []
    seen: dict[str, float] = {}
    for key, (_, _, rows) in zip(keys, groups, strict=True):
        for attack, row in rows.items():
            # ASVspoof 5 calls the attack of a bona fide trial `bonafide`.
            if "eer_percent" not in row or not row["n_spoof"]:
                continue
            low, high = row.get("eer_percent_interval", [row["eer_percent"]] * 2)
            values.append({"attack": attack, "system": key.name, "eer": row["eer_percent"], "low": low, "high": high})
            seen.setdefault(attack, row["eer_percent"])
    order = sorted(seen, key=lambda name: -seen[name])[:_ATTACKS]
    values = [row for row in values if row["attack"] in order]
    y: Spec = {"field": "attack", "type": "nominal", "title": None, "sort": order}
    offset: Spec = {"field": "system", "sort": [key.name for key in keys]}
    x: Spec = {"field": "eer", "type": "quantitative", "title": "EER, %", "axis": {"tickCount": 6}}
    tooltip = [{"field": "attack"}, {"field": "system"}, {"field": "eer", "title": "EER %", "format": ".3f"}]
    bars = {
        "mark": {"type": "bar", "opacity": 0.6, "height": {"band": 0.8}},
        "encoding": {"x": x, "y": y, "yOffset": offset, "color": _colour(keys), "tooltip": tooltip},
    }
    intervals = {
        "mark": {"type": "rule", "color": "var(--ink)", "strokeWidth": 1.4},
        "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, "yOffset": offset},
    }
    spec = _chart(
        [bars, intervals], len(order) * (18 if len(keys) == 1 else 4 + 11 * len(keys)), data={"values": values}
    )
    rows = []
    for attack in order:
        cells = [attack]
        for _, _, own in groups:
            row = own.get(attack, {})
            text = f"{row['eer_percent']:.3f}" if "eer_percent" in row else "-"
            if "eer_percent_interval" in row:
                text += " ({:.3f} to {:.3f})".format(*row["eer_percent_interval"])
            cells.append(text)
        rows.append([*cells, f"{groups[0][2].get(attack, {}).get('n_spoof', 0):,}"])
    caption = "Each attack against all bona fide trials, hardest first. Lines: 95 % intervals."
    head = ("attack", *(f"EER %, {key.name}" for key in keys), "trials")
    return Chart("EER by attack", caption, spec, head, rows, keys, wide=len(keys) > 1)


def reliability(systems: Sequence[System]) -> list[Chart]:
    """What scores say and what is found: taken as log-likelihood ratios, and after a logistic calibration."""
    keys = [system_key(place, system.name) for place, system in enumerate(systems)]
    kinds: dict[str, list[tuple[Key, curves.Reliability]]] = {"as": [], "after": []}
    for key, system in zip(keys, systems, strict=True):
        scores, bonafide = system.scores.scores, system.bonafide
        assert bonafide is not None
        kinds["as"].append((key, curves.reliability(scores, bonafide)))
        try:
            fitted = metrics.fit_logistic(scores[bonafide], scores[~bonafide])
        except metrics.MetricError:
            # Scores that no rising line calibrates, such as those of an untrained network.
            continue
        kinds["after"].append((key, curves.reliability(fitted.log_likelihood_ratio(scores), bonafide)))
    texts = {
        "as": ("Scores taken as log-likelihood ratios", "What Cllr and actDCF assume of a score."),
        "after": (
            "After logistic calibration",
            "Fitted on these very trials: what calibration can reach at best, not what it will.",
        ),
    }
    return [_reliability(*texts[kind], found) for kind, found in kinds.items() if found]


def _reliability(title: str, caption: str, found: Sequence[tuple[Key, curves.Reliability]]) -> Chart:
    keys = [key for key, _ in found]
    x: Spec = {
        "field": "said",
        "type": "quantitative",
        "title": "said: P(bona fide), even odds",
        "scale": {"domain": [0, 1]},
    }
    y: Spec = {"field": "found", "type": "quantitative", "title": "found: share bona fide", "scale": {"domain": [0, 1]}}
    values, rows = [], []
    for key, one in found:
        for said, share, n in zip(one.said, one.found, one.n, strict=True):
            values.append(
                {"said": round(float(said), 4), "found": round(float(share), 4), "n": int(n), "system": key.name}
            )
            rows.append((key.name, f"{said:.4f}", f"{share:.4f}", f"{n:,}"))
    layers: list[Spec] = [
        {
            "data": {"values": [{"said": 0, "found": 0}, {"said": 1, "found": 1}]},
            "mark": {"type": "line", "color": "var(--faint)", "strokeWidth": 1, "strokeDash": [2, 3]},
            "encoding": {"x": x, "y": y},
        },
        {
            "data": {"values": values},
            "mark": {"type": "line", "strokeWidth": 2, "point": {"filled": True, "size": 45}},
            "encoding": {
                "x": x,
                "y": y,
                "color": _colour(keys),
                "tooltip": [
                    {"field": "system"},
                    {"field": "said"},
                    {"field": "found"},
                    {"field": "n", "title": "trials"},
                ],
            },
        },
    ]
    return Chart(
        title,
        f"{caption} On the diagonal, what is said is what is found.",
        _chart(layers, 250),
        ("system", "said", "found", "trials"),
        rows,
        keys,
    )


def scatter(comparison: Comparison, bonafide: np.ndarray | None) -> Chart:
    """One system's scores over the other's."""
    a, b = str(comparison.numbers["a"]), str(comparison.numbers["b"])
    kept = _sample(np.abs(comparison.a - comparison.b))
    names = _class_names(bonafide, len(comparison.a))
    keys = [Key(name, colour) for name, colour in _class_colours(bonafide)]
    values = [
        {"a": x, "b": y, "class": name, "id": str(identity)}
        for x, y, name, identity in zip(
            *(
                _plain(comparison.a[kept], 6),
                _plain(comparison.b[kept], 6),
                names[kept],
                comparison.utterance_ids[kept],
            ),
            strict=True,
        )
    ]
    both = np.concatenate([comparison.a, comparison.b])
    ends = _plain([both.min(), both.max()])
    scale = {"zero": False}
    x: Spec = {"field": "a", "type": "quantitative", "title": f"score of {a}", "scale": scale, "axis": {"tickCount": 6}}
    y: Spec = {"field": "b", "type": "quantitative", "title": f"score of {b}", "scale": scale}
    layers: list[Spec] = [
        {
            "data": {"values": [{"a": end, "b": end} for end in ends]},
            "mark": {"type": "line", "color": "var(--faint)", "strokeWidth": 1, "strokeDash": [2, 3]},
            "encoding": {"x": x, "y": y},
        },
        {
            "data": {"values": values},
            "mark": {"type": "point", "filled": True, "size": 22, "opacity": 0.5},
            "encoding": {
                "x": x,
                "y": y,
                "color": _colour(keys, "class"),
                "tooltip": [
                    {"field": "id"},
                    {"field": "class"},
                    {"field": "a", "title": a},
                    {"field": "b", "title": b},
                ],
            },
        },
    ]
    shown = (
        f"{len(kept):,} of {len(names):,} trials, those that differ most among them. " if len(kept) < len(names) else ""
    )
    worst = [(row["utterance_id"], f"{row['a']:.6f}", f"{row['b']:.6f}") for row in comparison.numbers["worst"]]
    return Chart(
        "Score against score",
        f"{shown}On the diagonal, both systems say the same.",
        _chart(layers),
        ("id", a, b),
        worst,
        keys,
    )


def differences(comparison: Comparison) -> Chart:
    """How far the systems' scores lie apart."""
    difference = comparison.a - comparison.b
    edges = curves.bin_edges(difference, 50)
    share = 100 * curves.shares(difference, edges)
    values = [
        {"a": a, "b": b, "share": s}
        for a, b, s in zip(_plain(edges[:-1]), _plain(edges[1:]), _plain(share, 4), strict=True)
    ]
    layer: Spec = {
        "data": {"values": values},
        "mark": {"type": "bar", "binSpacing": 0, "color": "var(--system-0)", "opacity": 0.7},
        "encoding": {
            "x": {
                "field": "a",
                "type": "quantitative",
                "bin": {"binned": True},
                "title": "difference of the scores",
                "axis": {"tickCount": 5, "format": "~g" if np.ptp(edges) > 1e-3 else ".0e"},
                "scale": {"zero": False, "nice": False, "domain": _plain(edges[[0, -1]])},
            },
            "x2": {"field": "b"},
            "y": {"field": "share", "type": "quantitative", "title": "% of the trials"},
        },
    }
    step = max(1, len(share) // 15)
    rows = [
        (f"{edges[i]:.3g} to {edges[min(i + step, len(share))]:.3g}", f"{share[i : i + step].sum():.2f}")
        for i in range(0, len(share), step)
    ]
    title = "Differences"
    caption = f"{comparison.numbers['a']} minus {comparison.numbers['b']}; the end bins hold what lies beyond."
    return Chart(title, caption, _chart([layer]), ("difference", "% of the trials"), rows)


def parity(comparison: Comparison) -> Chart:
    """|difference| over the smallest rank gap, both logarithmic, with the bound of near ties and the tolerance."""
    numbers = comparison.numbers
    size = np.abs(comparison.a - comparison.b)
    there = np.isfinite(comparison.gaps)
    # Zero has no logarithm: equal scores are drawn at the bottom.
    floor = max(float(size[size > 0].min()) / 2 if (size > 0).any() else 1e-9, 1e-9)
    keys = [
        Key("within the tolerance", "var(--system-0)"),
        Key("explained by a near tie", "var(--explained)"),
        Key("unexplained", "var(--alarm)"),
    ]
    kind = np.select([comparison.unexplained, comparison.explained], [keys[2].name, keys[1].name], keys[0].name)
    rows_there = np.flatnonzero(there)
    kept = rows_there[_sample(size[there])]
    values = [
        {"gap": gap, "size": max(value, floor), "kind": name, "id": str(identity)}
        for gap, value, name, identity in zip(
            _plain(np.maximum(comparison.gaps[kept], 1e-12), 4),
            _plain(size[kept], 4),
            kind[kept],
            comparison.utterance_ids[kept],
            strict=True,
        )
    ]
    x: Spec = {
        "field": "gap",
        "type": "quantitative",
        "scale": {"type": "log"},
        "title": "smallest rank gap",
        "axis": {"format": ".0e", "tickCount": 5},
    }
    y: Spec = {
        "field": "size",
        "type": "quantitative",
        "scale": {"type": "log"},
        "title": "|difference|",
        "axis": {"format": ".0e", "tickCount": 5},
    }
    rule: Spec = {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3]}
    shape = {"domain": [key.name for key in keys], "range": ["circle", "diamond", "cross"]}
    layers: list[Spec] = [
        {"data": {"values": [{"gap": numbers["gap_bound"]}]}, "mark": rule, "encoding": {"x": x}},
        {"data": {"values": [{"size": max(numbers["tolerance"], floor)}]}, "mark": rule, "encoding": {"y": y}},
        {
            "data": {"values": values},
            "mark": {"type": "point", "filled": True, "size": 42, "opacity": 0.75},
            "encoding": {
                "x": x,
                "y": y,
                "color": _colour(keys, "kind"),
                "shape": {"field": "kind", "type": "nominal", "scale": shape, "legend": None},
                "tooltip": [
                    {"field": "id"},
                    {"field": "gap"},
                    {"field": "size", "title": "|difference|"},
                    {"field": "kind"},
                ],
            },
        },
    ]
    caption = (
        f"Dashed: the bound {numbers['gap_bound']:g} below which a gap can close under rounding, and the tolerance "
        f"{numbers['tolerance']:g}. Upper left is explained; upper right would be a difference of the systems."
    )
    counts = [(key.name, f"{(kind[there] == key.name).sum():,}") for key in keys]
    return Chart("Differences against rank gaps", caption, _chart(layers, 320), ("", "trials"), counts, keys, wide=True)


def _sample(size: np.ndarray) -> np.ndarray:
    """Rows to draw: all where they are few; else those that differ most, and others at random."""
    if len(size) <= _POINTS:
        return np.arange(len(size))
    order = np.argsort(-size, kind="stable")
    worst, others = order[: _POINTS // 3], order[_POINTS // 3 :]
    chosen = np.random.default_rng(0).choice(others, _POINTS - len(worst), replace=False)
    return np.sort(np.concatenate([worst, chosen]))


def _class_names(bonafide: np.ndarray | None, n: int) -> np.ndarray:
    return np.full(n, "trials") if bonafide is None else np.where(bonafide, "bona fide", "spoof")


def _class_colours(bonafide: np.ndarray | None) -> list[tuple[str, str]]:
    return [("trials", "var(--system-0)")] if bonafide is None else [("bona fide", BONAFIDE), ("spoof", SPOOF)]
