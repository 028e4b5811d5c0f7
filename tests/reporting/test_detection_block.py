"""A detection on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from spectra_jax.inference.detection import Detection, Window, find_segments
from spectra_jax.inference.thresholds import THRESHOLDS, Threshold
from spectra_jax.reporting.detection_block import clock, print_detection

WINDOWS = tuple(
    Window(index * 0.5, index * 0.5 + 2, (0.0, float(index % 7)), counts=index % 5 > 0) for index in range(300)
)


def printed(detection: Detection, encoding: str = "utf-8") -> str:
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding)
    print_detection(detection, Console(file=file, width=200))
    file.flush()
    return buffer.getvalue().decode(encoding)


def found(threshold: Threshold | None = None) -> Detection:
    segments = () if threshold is None else find_segments(WINDOWS, threshold.value)
    return Detection(
        "a call.wav",
        (0.0, 2.5),
        151.5,
        heard_seconds=151.5,
        windows=WINDOWS,
        segments=segments,
        threshold=threshold,
        hop=0.5,
        window_seconds=2.0,
        aggregate="speech-mean",
        warnings=("a warning that is long " * 9,),
    )


def test_lines_fit_80_columns() -> None:
    text = printed(found(Threshold(3.0)))
    assert max(map(len, text.splitlines())) <= 80
    assert "verdict   spoof: the score is below the threshold 3" in text
    assert "the mean of 240 of 300 windows" in text
    assert "each bar the lowest of 5 windows" in text
    assert "more segments" in text


def test_no_verdict_without_a_threshold() -> None:
    assert "verdict" not in printed(found())
    assert "(published-code)" in printed(found(THRESHOLDS["published-code"]))


def test_encodings_without_blocks() -> None:
    assert "01" in printed(replace(found(), windows=WINDOWS[:9]), "ascii")


def test_an_error_is_a_block_of_its_own() -> None:
    assert printed(Detection("a\x1b.wav", None, error="no such file")) == "a\\x1b.wav\n  error     no such file\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00.00"), (65.5, "1:05.50"), (59.999, "1:00.00"), (3665.5, "1:01:05.50")]
)
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text
