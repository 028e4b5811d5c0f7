"""The scores of a recording's windows over time, as a picture and a table show them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from spectra_jax.inference.detection import Detection, Window, nearest_stretches

ROWS = 480
"""The largest number of rows of a recording, each a window or the lowest of several."""
_HEIGHT = 1000  # of the picture, in units of its own
_TIME_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_TIME_TICKS = 8
_SCORE_TICKS = 4


@dataclass(frozen=True)
class Row:
    """A window, or the one with the lowest score of several that follow each other.

    Attributes:
      window: see above; one that counts, where any does.
      start, end: the time that the row represents, in seconds.
      windows: how many it represents.
      below: whether it counts and its score is below the threshold; False without a threshold.
    """

    window: Window
    start: float
    end: float
    windows: int
    below: bool


@dataclass(frozen=True)
class Tick:
    """A mark of an axis.

    Attributes:
      position: in percent of the axis.
      text: its label.
    """

    position: float
    text: str


@dataclass(frozen=True)
class ScoreTrack:
    """The picture: the width is the recording's length in milliseconds, and the height is 1000 units.

    Attributes:
      width: of the picture.
      above, below, not_counted: paths of horizontal lines, one for each row.
      area: a path that fills the rows below the threshold up to it.
      threshold: its height in units from the top; None without a threshold.
      ticks: of the axis of scores, from the bottom.
    """

    width: int
    above: str
    below: str
    not_counted: str
    area: str
    threshold: float | None
    ticks: Sequence[Tick]


def track_rows(detection: Detection) -> list[Row]:
    """The windows of a recording as at most `ROWS` rows."""
    windows = detection.windows
    size = max(-(-len(windows) // ROWS), 1)
    stretches = nearest_stretches(windows)
    threshold = None if detection.threshold is None else detection.threshold.value
    rows = []
    for first in range(0, len(windows), size):
        group = windows[first : first + size]
        chosen = min(group, key=lambda window: (not window.counts, window.score))
        below = threshold is not None and chosen.counts and chosen.score < threshold
        rows.append(Row(chosen, stretches[first][0], stretches[first + len(group) - 1][1], len(group), below))
    return rows


def draw_scores(detection: Detection, rows: Sequence[Row]) -> ScoreTrack:
    """The picture of the rows of a recording that was scored."""
    assert detection.seconds is not None
    threshold = None if detection.threshold is None else detection.threshold.value
    values = [row.window.score for row in rows] + ([] if threshold is None else [threshold])
    margin = max(max(values) - min(values), 0.5) * 0.1
    low, high = min(values) - margin, max(values) + margin

    def height(score: float) -> int:
        return round((high - score) / (high - low) * _HEIGHT)

    def lines(chosen: Iterable[Row]) -> str:
        return "".join(f"M{_ms(row.start)} {height(row.window.score)}H{_ms(row.end)}" for row in chosen)

    area = ""
    if threshold is not None:
        for members in _runs_below(rows):
            steps = "".join(f"V{height(row.window.score)}H{_ms(row.end)}" for row in members)
            area += f"M{_ms(members[0].start)} {height(threshold)}{steps}V{height(threshold)}Z"
    return ScoreTrack(
        width=max(_ms(detection.seconds), 1),
        above=lines(row for row in rows if row.window.counts and not row.below),
        below=lines(row for row in rows if row.below),
        not_counted=lines(row for row in rows if not row.window.counts),
        area=area,
        threshold=None if threshold is None else height(threshold),
        ticks=_score_ticks(low, high),
    )


def _runs_below(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows below the threshold that follow each other without a gap. Windows that are far apart leave gaps."""
    run: list[Row] = []
    for row in rows:
        if run and not (row.below and math.isclose(run[-1].end, row.start, abs_tol=1e-6)):
            yield run
            run = []
        if row.below:
            run.append(row)
    if run:
        yield run


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _score_ticks(low: float, high: float) -> list[Tick]:
    raw = (high - low) / _SCORE_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    digits = max(-math.floor(math.log10(step)), 0)
    first = math.ceil(low / step)
    values = [index * step for index in range(first, math.floor(high / step) + 1)]
    # `+ 0.0` so that no tick is -0.
    return [Tick(100 * (value - low) / (high - low), f"{round(value, digits) + 0.0:.{digits}f}") for value in values]


def time_ticks(seconds: float, most: int = _TIME_TICKS) -> list[Tick]:
    """Marks of an axis of so many seconds: the start and at most `most` others, as m:ss, with hours h:mm:ss."""
    steps = [*_TIME_STEPS, *(3600 * 2**power for power in range(2, 20))]
    step = next(step for step in steps if math.floor(seconds / step) <= most)
    digits = 0 if step >= 1 else len(f"{step:g}") - 2
    return [
        Tick(100 * index * step / seconds, _clock(index * step, digits))
        for index in range(math.floor(seconds / step + 1e-9) + 1)
    ]


def _clock(seconds: float, digits: int) -> str:
    whole = int(seconds + 1e-9)
    minutes, rest = divmod(whole, 60)
    fraction = f"{max(seconds - whole, 0):.{digits}f}"[1:] if digits else ""
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
    return f"{minutes}:{rest:02}{fraction}"
