"""A detection as a block of lines for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from spectra_jax.inference.detection import Detection, Window
from spectra_jax.messages import count, printable

_WIDTH = 80
_INDENT = 12
_BARS = "▁▂▃▄▅▆▇█"
# For terminals whose encoding has no blocks.
_PLAIN_BARS = "01234567"
_MAX_BARS = 60
_SHOWN_SEGMENTS = 20
# The name of the lines that show the score over time.
_COURSE = "course"


def print_detection(detection: Detection, console: Console) -> None:
    """Print the verdict, where a threshold was stated, the score, its course over time, segments and warnings.

    Args:
      detection: of one recording.
      console: to print on. Lines are at most 80 columns wide, but for the recording's name.
    """
    blocks = _BARS if (console.encoding or "").lower().startswith("utf") else _PLAIN_BARS
    console.print(Text(printable(detection.name)), soft_wrap=True, highlight=False)
    for name, text in _lines(detection, blocks):
        # Wrapped bars would be read as two rows.
        lines = [text] if name == _COURSE else textwrap.wrap(printable(text), _WIDTH - _INDENT, break_on_hyphens=False)
        for number, line in enumerate(lines):
            head = "" if number or name == _COURSE else name
            console.print(Text(f"  {head:<{_INDENT - 2}}{line}"), soft_wrap=True, highlight=False)


def _lines(detection: Detection, bars: str) -> Iterator[tuple[str, str]]:
    """The lines' names and texts."""
    if detection.error is not None:
        yield "error", detection.error
        return
    assert detection.score is not None
    if detection.threshold is not None:
        yield "verdict", describe_verdict(detection)
    yield "score", f"{detection.score:.4f}, {describe_aggregate(detection)}; higher = more bona fide"
    if detection.p_spoof is not None:
        yield "P(spoof)", f"{detection.p_spoof:.4f} at a prior of {detection.spoof_prior:g}; LLR {detection.llr:.3f}"
    yield "heard", describe_heard(detection)
    if len(detection.windows) > 1:
        yield from ((_COURSE, line) for line in _course(detection.windows, bars))
    for segment in detection.segments[:_SHOWN_SEGMENTS]:
        times = f"{clock(segment.start)} to {clock(segment.end)}"
        windows = count(segment.windows, "window")
        yield "below", f"{times}: mean {segment.score:.2f}, lowest {segment.lowest:.2f}, {windows}"
    if len(detection.segments) > _SHOWN_SEGMENTS:
        yield "", f"... and {len(detection.segments) - _SHOWN_SEGMENTS:,} more segments"
    for warning in detection.warnings:
        yield "warning", warning


def describe_verdict(detection: Detection) -> str:
    """The verdict in words. There must be a threshold."""
    threshold = detection.threshold
    assert threshold is not None
    name = f" ({threshold.name})" if threshold.name else ""
    if detection.label == "spoof":
        return f"spoof: the score is below the threshold {threshold.value:g}{name}"
    text = f"bona fide: the score is not below the threshold {threshold.value:g}{name}"
    if detection.segments:
        seconds = sum(segment.end - segment.start for segment in detection.segments)
        text += f"; {count(len(detection.segments), 'segment')} below it, {seconds:.2f} s in all"
    return text


def describe_aggregate(detection: Detection) -> str:
    """How the score follows from those of the windows, in words."""
    number, counted = len(detection.windows), sum(window.counts for window in detection.windows)
    if detection.hop is None or detection.aggregate == "first":
        return "of the first window"
    match detection.aggregate:
        case "speech-mean" if counted:
            return f"the mean of {counted:,} of {count(number, 'window')}"
        case "speech-mean" | "mean":
            return f"the mean of {count(number, 'window')}"
        case "min":
            return f"the lowest of {count(number, 'window')}"
        case "median":
            return f"the median of {count(number, 'window')}"


def describe_heard(detection: Detection) -> str:
    """How much of the recording was scored, and how much of it is speech, in words."""
    text = f"{detection.heard_seconds:.2f} of {detection.seconds:.2f} s"
    if detection.speech_seconds is not None:
        text += f"; {detection.speech_seconds:.2f} s are speech"
    if detection.hop is not None and detection.window_seconds is not None:
        text += f"; windows of {detection.window_seconds:.2f} s every {detection.hop:g} s"
    return text


def _course(windows: Sequence[Window], bars: str) -> Iterator[str]:
    """The scores over time as a row of bars, and the times below it. A bar is the lowest of the scores at its time."""
    size = -(-len(windows) // _MAX_BARS)
    groups = [windows[start : start + size] for start in range(0, len(windows), size)]
    lowest = [min((window.score for window in group if window.counts), default=None) for group in groups]
    known = [score for score in lowest if score is not None] or [window.score for window in windows]
    low, high = min(known), max(known)
    steps = max(high - low, 1.0)  # so that rounding does not look like a course
    none = "·" if bars == _BARS else "."
    row = "".join(none if score is None else bars[int((score - low) / steps * 7.999)] for score in lowest)
    remark = f", each bar the lowest of {size:,} windows" if size > 1 else ""
    yield f"{row}"
    start, end = clock(windows[0].start), clock(windows[-1].end)
    yield f"{start}{end:>{max(len(row) - len(start), len(end) + 1)}}"
    yield f"scores from {low:.2f} to {high:.2f}{remark}"
    if none in row:
        yield f"{none} does not count"


def clock(seconds: float) -> str:
    """A time in a recording: `1:05.50`, or `1:01:05.50` from an hour on."""
    hundredths = round(seconds * 100)
    minutes, hundredths = divmod(hundredths, 6000)
    rest = f"{hundredths // 100:02}.{hundredths % 100:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest}" if minutes >= 60 else f"{minutes}:{rest}"
