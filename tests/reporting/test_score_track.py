"""Scores over time: bounded rows, ticks that can be read, and a picture of all windows."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from spectra_jax.inference.detection import Detection, Window
from spectra_jax.inference.thresholds import Threshold
from spectra_jax.reporting.score_track import ROWS, draw_scores, time_ticks, track_rows
from tests.reporting.conftest import make_detection, make_window


def test_each_window_is_a_row_where_they_are_few() -> None:
    found = make_detection([1.0, -1.0, 2.0])
    assert [row.window for row in track_rows(found)] == list(found.windows)
    assert [row.below for row in track_rows(found)] == [False] * 3, "there is no threshold"
    rows = track_rows(make_detection([1.0, -1.0, 2.0], threshold=0.0))
    assert [row.below for row in rows] == [False, True, False]
    assert [(row.start, row.end) for row in rows] == [(0.0, 1.25), (1.25, 1.75), (1.75, 3.0)]


def test_rows_of_many_windows_show_the_lowest_score_that_counts() -> None:
    scores = [float(index % 11) for index in range(10 * ROWS)]
    found = make_detection(scores)
    uncounted = replace(found, windows=(replace(found.windows[0], counts=False), *found.windows[1:]))
    rows = track_rows(uncounted)
    assert len(rows) == ROWS and {row.windows for row in rows} == {10}
    assert rows[0].window.score == 1.0, "the first window has 0.0, and does not count"
    assert rows[1].window.score == min(scores[10:20])
    assert all(before.end == after.start for before, after in pairwise(rows))


def test_the_picture_has_a_line_for_each_window_by_kind() -> None:
    found = make_detection([1.0, -1.0, -2.0, 2.0], threshold=0.0)
    found = replace(found, windows=(*found.windows[:3], make_window(3, 2.0, counts=False)))
    track = draw_scores(found, track_rows(found))
    assert [path.count("M") for path in (track.above, track.below, track.not_counted)] == [1, 2, 1]
    assert track.area.count("M") == 1, "two windows in a row are one area"
    heights = [float(number) for number in re.findall(r"M\d+ (-?\d+)", track.below)]
    assert track.threshold is not None and track.threshold < heights[0] < heights[1] < 1000, "lower scores are lower"
    assert draw_scores(make_detection([1.0]), track_rows(make_detection([1.0]))).threshold is None


@pytest.mark.parametrize("scores", [[1e-9, 2e-9], [-1e6, 1e6], [0.0], [-0.04, 0.03]])
def test_ticks_of_scores_are_few_distinct_and_inside(scores: list[float]) -> None:
    found = make_detection(scores)
    ticks = draw_scores(found, track_rows(found)).ticks
    texts = [tick.text for tick in ticks]
    assert 1 < len(texts) <= 6 and len(set(texts)) == len(texts) and "-0.0" not in texts
    assert all(0 <= tick.position <= 100 for tick in ticks)


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        (0.02, ["0:00.000", "0:00.005", "0:00.010", "0:00.015", "0:00.020"]),
        (1.1, ["0:00.0", "0:00.2", "0:00.4", "0:00.6", "0:00.8", "0:01.0"]),
        (415.0, ["0:00", "1:00", "2:00", "3:00", "4:00", "5:00", "6:00"]),
        (3 * 3600.0, ["0:00", "30:00", "1:00:00", "1:30:00", "2:00:00", "2:30:00", "3:00:00"]),
    ],
)
def test_ticks_of_time(seconds: float, texts: list[str]) -> None:
    assert [tick.text for tick in time_ticks(seconds)] == texts
    assert len(time_ticks(seconds, most=4)) <= 5


def test_a_gap_between_windows_is_not_filled() -> None:
    windows = tuple(Window(start, start + 2, (0.0, -1.0)) for start in (0.0, 5.0, 6.0))
    found = Detection("a", (0.0, -1.0), 8.0, windows=windows, threshold=Threshold(0.0))
    track = draw_scores(found, track_rows(found))
    assert [part.partition(" ")[0] for part in track.area.split("M")[1:]] == ["0", "5000"]


@pytest.mark.parametrize("value", [-20.0, -1_000_000.0])
def test_a_threshold_far_away_is_in_the_picture(value: float) -> None:
    found = replace(Detection("a", (0.0, 5.0), 2.0), windows=(make_window(0, 5.0),), threshold=Threshold(value))
    track = draw_scores(found, track_rows(found))
    assert track.threshold is not None and 0 < track.threshold < 1000
