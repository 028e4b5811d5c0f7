"""Charts: their numbers are those of the systems, and each table has what its chart draws."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.evaluation.compare import compare
from spectra_jax.evaluation.evaluate import Evaluation
from spectra_jax.reporting import curves
from spectra_jax.reporting.systems import System, read_systems

pytest.importorskip("altair", reason="needs the extra `report`")

from spectra_jax.reporting.charts.attacks import attack_bars, attack_strips
from spectra_jax.reporting.charts.chart import Chart, Key, rows_to_draw, system_key
from spectra_jax.reporting.charts.det import det
from spectra_jax.reporting.charts.differences import differences
from spectra_jax.reporting.charts.histogram import histogram
from spectra_jax.reporting.charts.reliability import reliability
from spectra_jax.reporting.charts.roc import roc
from spectra_jax.reporting.charts.scatter import gap_scatter, score_scatter

KEYS = [system_key(index, name) for index, name in enumerate(("first", "second"))]


@pytest.fixture(scope="module")
def systems(folder: Path, labels: Labels) -> list[System]:
    return read_systems([folder / "first.csv", folder / "second.csv"], labels, resamples=20)


def evaluations(systems: list[System]) -> list[Evaluation]:
    return [system.evaluation for system in systems if system.evaluation]


def drawn_curves(systems: list[System], resamples: int) -> list[curves.Curve]:
    return [
        curves.curve(one.scores[one.bonafide], one.scores[~one.bonafide], resamples=resamples)
        for one in evaluations(systems)
    ]


def marks(chart: Chart, mark: str) -> list[list[dict[str, Any]]]:
    """The rows that each layer with this mark draws."""
    layers = [layer for layer in chart.spec["layer"] if layer["mark"]["type"] == mark]
    default = chart.spec.get("data", {})
    return [chart.spec["datasets"][layer.get("data", default)["name"]] for layer in layers]


def test_det_marks_the_eers_between_ticks_that_are_rates(systems: list[System]) -> None:
    found = drawn_curves(systems, resamples=50)
    chart = det(evaluations(systems), KEYS, found)
    (dots,) = marks(chart, "point")
    for dot, evaluation in zip(dots, evaluations(systems), strict=True):
        assert dot["x"] == dot["y"] == curves.probit(evaluation.eer_percent / 100)
        assert dot["EER"] == f"{evaluation.eer_percent:.3f} %"
    axis = chart.spec["layer"][0]["encoding"]["x"]["axis"]
    deviates = {float(f"{curves.probit(rate):.5g}") for rate in (0.01, 0.05, 0.1, 0.4)}
    assert deviates <= set(axis["values"]) and ":'5'" in axis["labelExpr"]
    assert [row["system"] for row in marks(chart, "area")[1]] == ["second"] * len(found[1].grid)
    middle, low, high = curves.at_false_acceptance(found[0], [0.05])
    row = next(row for row in chart.rows if row[0] == "5 %")
    assert row[1] == f"{100 * middle[0]:.2f} % ({100 * low[0]:.2f} to {100 * high[0]:.2f})"


def test_det_and_roc_without_bands(systems: list[System]) -> None:
    for draw in (det, roc):
        chart = draw(evaluations(systems), KEYS, drawn_curves(systems, resamples=0))
        assert marks(chart, "area") == [] and "Bands" not in chart.caption
        _, lines = marks(chart, "line")
        assert {row["system"] for row in lines} == {"first", "second"}


def test_roc_shows_the_corner_of_good_systems(systems: list[System]) -> None:
    chart = roc(evaluations(systems), KEYS, drawn_curves(systems, resamples=0))
    worst = max(one.eer_percent for one in evaluations(systems))
    corner = chart.spec["layer"][0]["encoding"]["x"]["scale"]["domain"][1]
    assert 4 * worst <= corner < 100 and f"to {corner} %" in chart.caption
    assert chart.rows == [(one.name, f"{one.auc:.4f}") for one in evaluations(systems)]


def test_histogram_has_a_share_of_each_class(systems: list[System]) -> None:
    chart = histogram(systems[0])
    (bars,) = marks(chart, "bar")
    for name in ("bona fide (100)", "spoof (300)"):
        assert sum(row["share"] for row in bars if row["class"] == name) == pytest.approx(100, abs=0.01)
    assert marks(chart, "rule") == [[{"t": evaluations(systems)[0].threshold}]]
    assert sum(float(row[1]) for row in chart.rows) == pytest.approx(100, abs=0.2)


def test_histogram_of_unlabelled_scores(folder: Path) -> None:
    chart = histogram(read_systems([folder / "first.csv"])[0])
    assert [key.name for key in chart.keys] == ["trials (400)"] and marks(chart, "rule") == []


def test_attack_bars_are_the_groups_hardest_first(systems: list[System]) -> None:
    groups = [one.groups["attack"] for one in evaluations(systems)]
    chart = attack_bars(KEYS, groups)
    (bars,) = {id(rows): rows for rows in marks(chart, "bar")}.values()
    shown = {(row["attack"], row["system"]): row for row in bars}
    for key, own in zip(KEYS, groups, strict=True):
        for name, group in own.items():
            row = shown[name, key.name]
            assert group.interval is not None and row["eer"] == group.eer_percent
            assert (row["low"], row["high"]) == (group.interval.low, group.interval.high)
    rates = [groups[0][row[0]].eer_percent for row in chart.rows]
    assert rates == sorted(rates, reverse=True) and [row[-1] for row in chart.rows] == ["100"] * 3


def test_an_attack_that_one_system_lacks(systems: list[System]) -> None:
    first, second = (dict(one.groups["attack"]) for one in evaluations(systems))
    del first["A01"]
    row = next(row for row in attack_bars(KEYS, [first, second]).rows if row[0] == "A01")
    assert row[1] == "-" and row[2].startswith(f"{second['A01'].eer_percent:.3f} (")


def test_attack_strips_have_the_quartiles(systems: list[System]) -> None:
    system = systems[0]
    chart = attack_strips(system)
    assert chart.rows[0][0] == "bona fide" and {row[0] for row in chart.rows[1:]} == {"A01", "A02", "A<b>3"}
    for name, *_, median, _ in chart.rows[1:]:
        assert median == f"{np.median(system.scores.scores[system.attacks == name]):.4f}"
    (cells,) = marks(chart, "rect")
    assert max(row["w"] for row in cells if row["attack"] == "A01") == 1
    assert sum(row["share"] for row in cells if row["attack"] == "A01") == pytest.approx(100, abs=0.5)


def test_reliability_before_and_after_calibration(systems: list[System]) -> None:
    before, after = reliability(systems, KEYS)
    for chart in (before, after):
        diagonal, points = marks(chart, "line")
        assert [row["stated"] for row in diagonal] == [row["observed"] for row in diagonal] == [0, 1]
        assert sum(row["n"] for row in points if row["system"] == "first") == 400 and len(points) == len(chart.rows)

    def miss(chart: Chart) -> float:
        return sum(int(n) * abs(float(stated) - float(observed)) for _, stated, observed, n in chart.rows)

    assert miss(after) < miss(before)


def test_scatters_have_each_trial_and_its_kind(systems: list[System]) -> None:
    one, other = (system.scores for system in systems)
    comparison = compare(one, other, resamples=0)
    (points,) = marks(score_scatter(comparison, systems[0].bonafide), "point")
    assert len(points) == 400 and sum(row["class"] == "bona fide" for row in points) == 100
    (plain,) = marks(score_scatter(comparison, None), "point")
    assert {row["class"] for row in plain} == {"trials"}
    chart = gap_scatter(comparison)
    (points,) = marks(chart, "point")
    kinds = {row["id"]: row["kind"] for row in points}
    assert kinds["trial_0005"] == "unexplained" and sum(kind == "unexplained" for kind in kinds.values()) == 1
    assert ("explained by a near tie", str(comparison.n_explained)) in chart.rows
    rules = [row for rows in marks(chart, "rule") for row in rows]
    assert rules == [{"gap": comparison.gap_bound}, {"size": comparison.tolerance}]


def test_equal_scores_can_be_drawn_on_a_logarithmic_axis() -> None:
    scores = Scores("s", np.array(["a", "b"], object), np.ones(2), {"smallest_rank_gap": np.array([0.0, 1e-3])})
    (points,) = marks(gap_scatter(compare(scores, scores)), "point")
    assert all(row["gap"] > 0 and row["size"] > 0 for row in points) and len(points) == 2


def test_differences_are_all_in_a_bin(systems: list[System]) -> None:
    comparison = compare(systems[0].scores, systems[1].scores, resamples=0)
    (bars,) = marks(differences(comparison), "bar")
    assert sum(row["share"] for row in bars) == pytest.approx(100, abs=0.01)
    assert bars[0]["a"] == pytest.approx(comparison.differences.min(), rel=1e-4)


def test_many_points_are_sampled_and_the_largest_kept() -> None:
    size = np.random.default_rng(0).exponential(size=10_000)
    rows = rows_to_draw(size)
    assert len(rows) == len(set(rows)) == 1500 and set(np.argsort(-size)[:500]) <= set(rows)
    assert 0.4 < size[rows[~np.isin(rows, np.argsort(-size)[:500])]].mean() / size.mean() < 1.1, "others at random"
    assert rows_to_draw(size[:10]).tolist() == list(range(10))


def test_systems_differ_by_colour_or_dash() -> None:
    keys = [system_key(index, str(index)) for index in range(20)]
    assert len({(key.colour, tuple(key.dash)) for key in keys}) == 20
    assert all(isinstance(key, Key) and key.colour.startswith("var(--system-") for key in keys)


def test_captions_hold_in_light_and_dark(systems: list[System]) -> None:
    caption = attack_strips(systems[0]).caption.lower()
    assert not re.search("dark|light|bright", caption) and "the more of the attack's trials" in caption


def test_axes_of_calibration_have_labels_that_a_phone_has_space_for(systems: list[System]) -> None:
    for chart in reliability(systems, KEYS):
        (axis,) = {str(layer["encoding"]["x"]["axis"]) for layer in chart.spec["layer"]}
        assert "'labelOverlap': 'greedy'" in axis and axis.count("0.") == 4
