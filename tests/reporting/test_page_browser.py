"""The report in a browser: it loads, fetches nothing, filters, and fits phones, the dark and paper."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from spectra_jax.reporting.page import write_report
from tests.reporting.conftest import OpenPage, overflow, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

    OpenReport = Callable[..., Page]

pytest.importorskip("vl_convert", reason="needs the extra `report`")
pytest.importorskip("altair", reason="needs the extra `report`")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

pytestmark = pytest.mark.slow

HOSTILE = "</script><img/src=x/onerror=alert(1)>"
N = 300


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems with attacks, rank gaps, a hostile id and a clip."""
    folder = tmp_path_factory.mktemp("browser")
    random = np.random.default_rng(0)
    bonafide = np.arange(N) < N // 3
    ids = [HOSTILE, *(f"trial_{index:04d}" for index in range(1, N))]
    attack = np.where(bonafide, "-", np.array(["A07", "A19"])[np.arange(N) % 2])
    first = random.normal(np.where(bonafide, 1.0, -1.0), 1.0)
    first[0] = -9.0
    gaps = 10 ** random.uniform(-8, -3, N)
    soundfile.write(folder / "clip.wav", random.normal(0, 0.1, 16_000), 16_000)
    for name, scores in (("first", first), ("second", first + np.where(gaps < 1e-6, 0.01, 1e-6))):
        lines = ["utterance_id,score,label,attack,smallest_rank_gap,path"]
        for identity, score, own, a, gap in zip(ids, scores, bonafide, attack, gaps, strict=True):
            label, path = ("bonafide", "clip.wav") if own else ("spoof", "")
            lines.append(f"{identity},{float(score)!r},{label},{a},{float(gap)!r},{path}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    write_report([folder / "first.csv", folder / "second.csv"], folder / "report.html", resamples=50)
    return folder / "report.html"


@pytest.fixture
def open_report(open_page: OpenPage, report: Path) -> OpenReport:
    """Opens the report, with keywords of a browser context."""

    def opened(**settings: Any) -> Page:
        page = open_page(report, **settings)
        page.wait_for_selector("html[data-drawn]")
        return page

    return opened


def test_every_section_and_chart_loads(open_report: OpenReport) -> None:
    page = open_report()
    charts = page.locator(".plot")
    assert charts.count() >= 10 and page.locator(".plot svg").count() == charts.count()
    assert page.locator(".plot svg path").count() > 100, "something is drawn"
    sections = page.locator("main section h2").all_text_contents()
    wanted = ["Error rates", "Metrics", "Scores", "Attacks", "Calibration", "Comparison", "Near ties", "Trials"]
    assert sections == [*wanted, "Provenance"]
    assert page.locator("#metrics tbody tr").first.locator("td").first.inner_text().count("to") == 1
    assert page.locator("#trials-table tbody th", has_text=HOSTILE).count() == 1, "as text"
    assert page.locator(".clips img").first.evaluate("image => image.naturalWidth") == 360


def test_clip_plays(open_report: OpenReport) -> None:
    page = open_report()
    audio = page.locator("audio").first
    audio.evaluate("audio => { audio.preload = 'auto'; audio.load(); }")
    wait_for(page, "document.querySelector('audio').readyState > 0")
    assert abs(audio.evaluate("audio => audio.duration") - 1.0) < 0.01


def test_filter_and_sort_from_the_keyboard(open_report: OpenReport) -> None:
    page = open_report()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "filter":
            break
    else:
        pytest.fail("the filter cannot be reached")
    page.keyboard.type("A07 ACCEPTED")
    rows = page.locator("#trials-table tbody tr")
    shown = [row.inner_text() for row in rows.all() if row.is_visible()]
    assert 0 < len(shown) < rows.count() and all("A07" in row and "accepted" in row for row in shown)
    assert page.locator("#shown").text_content() == f"{len(shown)} of {rows.count()}"
    assert page.locator(".clips li:visible").count() == 0, "the clips are bona fide"
    page.keyboard.press("Control+A")
    page.keyboard.type("no such trial")
    assert page.locator("#trials-table tbody tr:visible").count() == 0
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    assert page.locator("#trials-table tbody tr:visible").count() == rows.count()
    # On to the table's own region, then its first two numeric columns' buttons.
    for _ in range(5):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "first"
    page.keyboard.press("Enter")
    scores = [float(cell) for cell in page.locator("#trials-table tbody td:nth-child(4)").all_text_contents()]
    assert scores == sorted(scores)
    page.keyboard.press("Space")
    scores = [float(cell) for cell in page.locator("#trials-table tbody td:nth-child(4)").all_text_contents()]
    assert scores == sorted(scores, reverse=True)


def test_light_dark_and_the_button(open_report: OpenReport) -> None:
    def paper(page: Page) -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    def line(page: Page) -> str:
        return page.evaluate("getComputedStyle(document.querySelector('.plot .mark-line path')).stroke")

    light, dark = open_report(color_scheme="light"), open_report(color_scheme="dark")
    assert (paper(light), paper(dark)) == ("rgb(255, 255, 255)", "rgb(21, 24, 28)")
    assert line(light) != line(dark), "charts follow"
    drawn = line(light)
    light.locator("#theme").focus()
    light.keyboard.press("Enter")
    assert paper(light) == "rgb(21, 24, 28)" and light.locator("#theme").get_attribute("aria-pressed") == "true"
    assert line(light) != drawn
    dark.locator("#theme").click()
    assert paper(dark) == "rgb(255, 255, 255)"
    dark.emulate_media(media="print")
    assert paper(dark) == "rgb(255, 255, 255)"


@pytest.mark.parametrize("width", [360, 820, 1280])
def test_no_sideways_scrolling(open_report: OpenReport, width: int) -> None:
    page = open_report(viewport={"width": width, "height": 740})
    assert overflow(page) <= 0
    for summary in page.locator("summary").all():
        summary.click()
    assert overflow(page) <= 0, "with every table open"


def test_print(open_report: OpenReport) -> None:
    page = open_report(viewport={"width": 700, "height": 990}, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible() and not page.locator("audio").first.is_visible()
    assert overflow(page) <= 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_reduced_motion(open_report: OpenReport) -> None:
    page = open_report(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_labels_of_an_axis_do_not_touch_on_a_phone(open_report: OpenReport) -> None:
    page = open_report(viewport={"width": 360, "height": 740})
    axes = page.evaluate(
        """() => Array.from(document.querySelectorAll("#calibration .role-axis-label"), (axis) =>
            Array.from(axis.querySelectorAll("text"), (text) => [text.textContent, text.getBoundingClientRect()]))"""
    )
    assert len(axes) >= 4 and all(len(axis) >= 3 for axis in axes)
    for axis in axes:
        boxes = [box for text, box in axis if text]
        for before, after in pairwise(boxes):
            assert before["right"] + 2 < after["left"] or after["bottom"] <= before["top"] + 2


def test_a_table_that_scrolls_has_a_sign_of_it(open_report: OpenReport) -> None:
    page = open_report(viewport={"width": 375, "height": 740})
    assert page.locator("#trials .more-columns").is_visible()
    assert not page.locator("#provenance .more-columns").is_visible(), "this table fits"
    shadow = page.locator("#trials .scroll").evaluate("region => getComputedStyle(region).backgroundAttachment")
    assert shadow == "local, local, scroll, scroll"
