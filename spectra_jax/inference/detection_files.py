"""Detections as files: a table of windows for spreadsheets, and labels for Audacity and video players.

| function | file |
| --- | --- |
| `write_csv` | a row for each window of all recordings, with a byte order mark, so that Excel reads it as UTF-8 |
| `write_audacity_labels` | one recording's label track: `start<TAB>end<TAB>text`, in seconds |
| `write_srt` | one recording's subtitles, with the score of each moment |

A file appears complete or not at all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from spectra_jax.files.outputs import output_file
from spectra_jax.inference.detection import Detection, nearest_stretches

ListSeparator = Literal["comma", "semicolon", "tab"]
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}
_COLUMNS = (
    *("recording", "start", "end", "score", "logit_spoof", "below_threshold", "speech_share", "counts", "flags"),
    *("recording_score", "label", "sha256", "error"),
)


def write_csv(detections: Iterable[Detection], path: Path, separator: ListSeparator = "comma") -> None:
    """Write a row for each window, and one for each recording that could not be scored.

    Args:
      detections: in the order of the rows.
      path: of the file.
      separator: between the columns. With `semicolon` numbers have decimal commas, as Excel expects both in the
        languages that write numbers so.

    Raises:
      OSError: the file cannot be written.
    """
    with output_file(path) as binary:
        # Excel takes a file without a byte order mark for one in an older encoding.
        file = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="backslashreplace", newline="")
        writer = csv.writer(file, delimiter=_SEPARATORS[separator])
        writer.writerow(_COLUMNS)
        for detection in detections:
            for row in _rows(detection):
                writer.writerow([_cell(value, separator) for value in row])
        file.flush()
        file.detach()


def _rows(detection: Detection) -> Iterator[tuple[object, ...]]:
    common = (detection.score, detection.label, detection.sha256, detection.error)
    if detection.error is not None:
        yield (detection.name, *[None] * 8, *common)
    for window in detection.windows:
        below = None if detection.threshold is None else window.score < detection.threshold.value
        numbers = (window.start, window.end, window.score, window.logits[0], below, window.speech_share)
        yield (detection.name, *numbers, window.counts, ";".join(window.flags), *common)


def _cell(value: object, separator: ListSeparator) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and separator == "semicolon":
        return repr(value).replace(".", ",")
    # A spreadsheet would compute a name that looks like a formula.
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def write_audacity_labels(detection: Detection, path: Path) -> None:
    """Write the label track of a recording, as Audacity imports it.

    With a threshold each segment below it has a label; without one each window has, for the time around its centre.

    Raises:
      OSError: the file cannot be written.
    """
    if detection.threshold is None:
        stretches = nearest_stretches(detection.windows)
        labels = [
            (start, end, f"{window.score:.2f}{_remark(window.flags)}")
            for (start, end), window in zip(stretches, detection.windows, strict=True)
        ]
    else:
        labels = [(one.start, one.end, f"below threshold, mean {one.score:.2f}") for one in detection.segments]
    with output_file(path) as file:
        file.write("".join(f"{start:.6f}\t{end:.6f}\t{text}\n" for start, end, text in labels).encode())


def write_srt(detection: Detection, path: Path) -> None:
    """Write the subtitles of a recording: the score of the window whose centre is nearest to each moment.

    Raises:
      OSError: the file cannot be written.
    """
    cues = []
    stretches = nearest_stretches(detection.windows)
    for number, ((start, end), window) in enumerate(zip(stretches, detection.windows, strict=True), start=1):
        below = detection.threshold is not None and window.counts and window.score < detection.threshold.value
        text = f"score {window.score:.2f}{', below threshold' if below else ''}{_remark(window.flags)}"
        cues.append(f"{number}\n{_srt_time(start)} --> {_srt_time(end)}\n{text}\n")
    with output_file(path) as file:
        file.write("\n".join(cues).encode())


def _remark(flags: Sequence[str]) -> str:
    return f" ({', '.join(flags)})" if flags else ""


def _srt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
