"""The page about inspected recordings: its numbers are the detections', names stay text, and its size is bounded."""

from __future__ import annotations

import re
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.data.trial import Trial
from spectra_jax.inference.detection import Detection
from spectra_jax.inference.recordings import trial_of
from spectra_jax.inference.thresholds import THRESHOLDS
from spectra_jax.reporting import inspection_page, recordings
from spectra_jax.reporting.detection_block import clock
from spectra_jax.reporting.inspection_page import InspectionContext, render_inspection, write_inspection
from spectra_jax.reporting.score_track import ROWS
from tests.reporting.conftest import HOSTILE, Page, make_detection

pytest.importorskip("jinja2", reason="needs the extra `report`")
pytest.importorskip("altair", reason="needs the extra `report`")
pytest.importorskip("PIL", reason="needs the extra `report`")

CONTEXT = InspectionContext("demo", "ab" * 32, "float32", ["spectra-jax", "inspect", "a b.wav"])
SCORES = [2.0, 1.5, -1.25, -0.5, 1.0]


def trial(detection: Detection) -> Trial:
    """Noise of the detection's length."""
    assert detection.seconds is not None
    return trial_of(np.random.default_rng(0).normal(0, 0.1, round(16_000 * detection.seconds)), 16_000)


def page(*detections: Detection) -> Page:
    return Page(render_inspection(detections, map(trial, detections), CONTEXT))


def values(parsed: Page) -> dict[str, str]:
    """The rows of what and value."""
    return {row[0]: row[1] for row in parsed.rows() if len(row) == 2}


def test_numbers_are_those_of_the_detection() -> None:
    found = make_detection(
        SCORES,
        threshold=0.0,
        speech_seconds=3.25,
        llr=1.5,
        p_spoof=0.125,
        spoof_prior=0.25,
        min_speech=0.5,
        detector="detector 1.0",
        sha256="12" * 32,
        warnings=("a warning",),
    )
    parsed = page(found)
    assert f"Bona fide: the score is not below the threshold 0; {len(found.segments)} segment" in parsed.text
    for text in (f"{found.score:.4f}", "0.1250", "1.500", "4.00 of 4.00 s", "3.25 s are speech", "Warning: a warning"):
        assert text in parsed.text
    (segments,) = [table[1:] for table in parsed.tables if "mean score" in table[0]]
    assert segments == [
        [clock(one.start), clock(one.end), f"{one.score:.4f}", f"{one.lowest:.4f}", str(one.windows)]
        for one in found.segments
    ]
    (windows,) = [table[1:] for table in parsed.tables if table[0][-1] == "remarks"]
    assert [row[:3] for row in windows] == [
        [clock(one.start), clock(one.end), f"{one.score:.4f}"] for one in found.windows
    ]
    assert [row[5] == "below the threshold" for row in windows] == [score < 0 for score in SCORES]
    known = values(parsed)
    assert known["sha256 of the file"] == "12" * 32 and known["sha256 of the weights"] == "ab" * 32
    assert known["voice activity detector"] == "detector 1.0" and known["prior probability of a spoof"] == "0.25"
    assert known["windows"] == "2 s, every 0.5 s; those count of which at least 50% is speech"
    assert known["command"] == "spectra-jax inspect 'a b.wav'" and "jax " in known["software"]


def test_nothing_is_decided_without_a_threshold() -> None:
    without, stated = page(make_detection(SCORES)), page(make_detection(SCORES, threshold=0.0))
    published = page(replace(make_detection(SCORES), threshold=THRESHOLDS["published-code"]))
    lines = [[a for tag, a in one.elements if a.get("class") == "threshold"] for one in (without, stated, published)]
    assert list(map(len, lines)) == [0, 1, 1]
    assert "so this page decides nothing" in without.text and "Segments below" not in without.text
    assert values(published)["threshold"].startswith("-1.0625009: published-code, in the code of")


def test_several_recordings_have_an_index_by_score_and_errors_at_its_end() -> None:
    bad = Detection("bad.wav", None, error="bad.wav: a\x1b folder")
    low, high = make_detection([-3.0], name="low.wav", threshold=0.0), make_detection([3.0], name="high", threshold=0.0)
    parsed = Page(render_inspection([bad, high, low], [None, trial(high), trial(low)], CONTEXT))
    assert [row[:3] for row in parsed.tables[0][1:]] == [
        ["low.wav", "-3.0000", "spoof"],
        ["high", "3.0000", "bona fide"],
        ["bad.wav", "none", "not scored"],
    ]
    assert parsed.headings[:4] == ["Recordings", "low.wav", "high", "bad.wav"]
    assert "This recording was not scored: bad.wav: a\\x1b folder" in parsed.text
    links = [a["href"] for tag, a in parsed.elements if tag == "a" and (a["href"] or "").startswith("#recording")]
    ids = [a["id"] for tag, a in parsed.elements if a.get("class") == "recording"]
    assert links == [f"#{identity}" for identity in ids]
    assert sum(tag == "audio" for tag, _ in parsed.elements) == 2


def test_names_stay_text_and_nothing_is_fetched() -> None:
    name = f"{HOSTILE} \"quoted\" 'single' 😀\u202e.wav"
    html = render_inspection([make_detection([1.0], name=name)], [None], CONTEXT)
    parsed = Page(html)
    assert f"{HOSTILE} \"quoted\" 'single' 😀\\u202e.wav" in parsed.headings
    assert "<script>alert" not in html and "\u202e" not in html
    html = render_inspection([found := make_detection([1.0])], [trial(found)], CONTEXT)
    addresses = [a[key] for _, a in Page(html).elements for key in ("src", "href", "srcset", "action") if key in a]
    assert addresses and all(re.match("#|data:", address or "") for address in addresses)
    assert not re.search(r"url\(|@import", html)
    policy = next(a["content"] for tag, a in Page(html).elements if "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_a_recording_that_cannot_be_decoded_again_keeps_its_numbers(tmp_path: Path) -> None:
    found = make_detection(SCORES, threshold=0.0, samples_sha256="0" * 64)
    for recording, problem in (
        (trial_of(tmp_path / "gone.wav"), "no such file"),
        (trial(found), "has changed since it was scored"),
        (None, "no recording was given"),
    ):
        parsed = Page(render_inspection([found], [recording], CONTEXT))
        assert problem in parsed.text and f"{found.score:.4f}" in parsed.text
        assert not [tag for tag, _ in parsed.elements if tag in ("audio", "img")]
        assert any(a.get("class") == "threshold" for _, a in parsed.elements), "the scores have their picture"


def test_the_size_is_bounded_and_what_is_left_out_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten hours of windows, of which every second one is below the threshold."""
    found = make_detection([1.0, -1.0] * 36_000, threshold=0.0)
    html = render_inspection([found], [None], CONTEXT)
    assert len(html) < 400_000
    parsed = Page(html)
    (windows,) = [table[1:] for table in parsed.tables if table[0][-1] == "remarks"]
    assert len(windows) == ROWS and f"{len(found.windows):,} windows, of which each row has" in parsed.text
    assert f"{len(found.segments) - inspection_page.SEGMENTS:,} more segments are not listed" in parsed.text
    monkeypatch.setattr(recordings, "LOSSLESS_SECONDS", 1.0)
    monkeypatch.setattr(inspection_page, "PICTURED", 2)
    several = [make_detection([float(score)], name=str(score)) for score in range(3)]
    parsed = page(*several)
    assert sum(tag == "audio" for tag, _ in parsed.elements) == 2
    assert "Only the 2 recordings with the lowest scores have pictures" in parsed.text
    assert "MP3" in parsed.text and "FLAC" not in parsed.text


def test_audio_beyond_the_limit_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection_page, "AUDIO_SECONDS", 1.0)
    parsed = page(make_detection(SCORES))
    assert "Only the first 0:01.00 of 0:04.00 can be heard on this page." in parsed.text
    assert any(a.get("class") == "inaudible" for _, a in parsed.elements)


def test_first_window_alone_and_what_was_not_heard() -> None:
    found = replace(make_detection([1.0]), hop=None, aggregate="first", seconds=60.0)
    parsed = page(found)
    assert "58.00 s were not scored" in parsed.text and "of the first window" in parsed.text
    assert values(parsed)["windows"] == "the first 2 s"


def test_the_file_appears_completely_or_not_at_all(tmp_path: Path) -> None:
    found = make_detection([1.0])
    with pytest.raises(ValueError, match="zip"):
        write_inspection(tmp_path / "new" / "a.html", [found], [], CONTEXT)
    assert list(tmp_path.iterdir()) == []
    write_inspection(tmp_path / "new" / "a.html", [found], [trial(found)], CONTEXT)
    assert Page((tmp_path / "new" / "a.html").read_text()).headings[0] == "a.wav"


def test_a_full_disk_keeps_the_page_before(tmp_path: Path) -> None:
    found = make_detection([1.0])
    write_inspection(tmp_path / "a.html", [found], [None], CONTEXT)
    before = (tmp_path / "a.html").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError):
            write_inspection(tmp_path / "a.html", [found], [trial(found)], CONTEXT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"] and (tmp_path / "a.html").read_bytes() == before


@pytest.mark.parametrize(
    ("scores", "warnings", "kind"),
    [([1.0], (), "good"), ([-1.0], (), "bad"), ([1.0], ("no speech",), "mixed"), ([3.0, -1.0], (), "mixed")],
)
def test_a_verdict_in_doubt_does_not_look_certain(scores: list[float], warnings: tuple[str, ...], kind: str) -> None:
    html = render_inspection([make_detection(scores, threshold=0.0, warnings=warnings)], [None], CONTEXT)
    assert [a["class"] for tag, a in Page(html).elements if (a.get("class") or "").startswith("verdict")] == [
        f"verdict {kind}"
    ]
