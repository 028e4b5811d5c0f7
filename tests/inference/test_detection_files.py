"""Detections as files for spreadsheets, Audacity and video players."""

from __future__ import annotations

import csv
from pathlib import Path

from spectra_jax.inference.detection import Detection, Window, find_segments
from spectra_jax.inference.detection_files import write_audacity_labels, write_csv, write_srt
from spectra_jax.inference.thresholds import Threshold

WINDOWS = (Window(0.0, 2.0, (0.5, 1.5), 0.75), Window(1.0, 3.0, (1.0, -0.5), 0.0, False, ("little speech",)))
LAST = Window(3599.9996, 3600.5, (1.0, -0.5))


def detection(*windows: Window, threshold: float | None = None, name: str = "call.wav") -> Detection:
    stated = None if threshold is None else Threshold(threshold)
    segments = () if threshold is None else find_segments(windows, threshold)
    return Detection(name, (0.5, 1.5), 3.0, windows=windows, segments=segments, threshold=stated, sha256="ab")


def rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_a_row_for_each_window_and_each_error(tmp_path: Path) -> None:
    write_csv([detection(*WINDOWS, threshold=0.0), Detection("=bad", None, error="empty")], tmp_path / "w.csv")
    first, second, bad = rows(tmp_path / "w.csv")
    assert (first["score"], first["below_threshold"], first["counts"], first["label"]) == (
        "1.5",
        "no",
        "yes",
        "bonafide",
    )
    assert (second["flags"], second["counts"]) == ("little speech", "no")
    assert (bad["recording"], bad["score"], bad["error"]) == ("'=bad", "", "empty")


def test_semicolons_have_decimal_commas(tmp_path: Path) -> None:
    write_csv([detection(*WINDOWS)], tmp_path / "w.csv", "semicolon")
    first, second = rows(tmp_path / "w.csv", ";")
    assert (first["score"], second["score"], first["below_threshold"]) == ("1,5", "-0,5", "")


def test_labels_are_segments_or_windows(tmp_path: Path) -> None:
    write_audacity_labels(detection(*WINDOWS), tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "0.000000\t1.500000\t1.50\n1.500000\t3.000000\t-0.50 (little speech)\n"
    write_audacity_labels(detection(*WINDOWS, threshold=2.0), tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "0.000000\t1.500000\tbelow threshold, mean 1.50\n"


def test_subtitles(tmp_path: Path) -> None:
    write_srt(detection(WINDOWS[0], LAST, threshold=0.0), tmp_path / "s.srt")
    assert (tmp_path / "s.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:02,000\nscore 1.50\n\n"
        "2\n01:00:00,000 --> 01:00:00,500\nscore -0.50, below threshold\n"
    )
