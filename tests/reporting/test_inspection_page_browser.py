"""The page about inspected recordings in a browser: it plays windows, by mouse and keyboard, and fits its reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spectra_jax.inference.detection import Detection
from spectra_jax.inference.recordings import trial_of
from spectra_jax.reporting.inspection_page import InspectionContext, write_inspection
from tests.reporting.conftest import OpenPage, make_detection, overflow, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("altair", reason="needs the extra `report`")
pytest.importorskip("jinja2", reason="needs the extra `report`")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")

pytestmark = pytest.mark.slow

NAME = '<img/src=x/onerror=alert(1)> "quoted" ' + "long_name_" * 12 + ".wav"
SCORES = [2.0, 1.5, -1.25, -0.5, 1.0, 1.0, 0.5, 0.5, 0.5]
_AUDIO = "document.querySelector('audio')"
# Text, its colour, and the first background behind it that is not transparent, as three numbers of 0 to 255 each.
_COLOURS = """() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length === 3) return found;
    }
  };
  const shown = (element) => element.checkVisibility() && !element.closest("audio, .quiet, .skip");
  const own = (element) => Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
  return Array.from(document.querySelectorAll("body *")).filter((element) => shown(element) && own(element)).map(
    (element) => [element.textContent, numbers(getComputedStyle(element).color), behind(element)]);
}"""


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of six seconds with a segment, one with a long name that is full of markup, and one with an error."""
    path = tmp_path_factory.mktemp("inspection") / "page.html"
    noise = trial_of(np.random.default_rng(0).normal(0, 0.1, 6 * 16_000), 16_000)
    first = make_detection(SCORES, threshold=0.0, name="first.wav", warnings=("a warning",), sha256="12" * 32)
    second = make_detection(SCORES, threshold=0.0, name=NAME)
    failed = Detection("bad.wav", None, error="bad.wav: no such file")
    context = InspectionContext("demo", "ab" * 32, "float32", ["spectra-jax", "inspect", NAME])
    write_inspection(path, [first, second, failed], [noise, noise, None], context)
    return path


@pytest.fixture
def open_html(open_page: OpenPage, html: Path) -> Callable[..., Page]:
    return lambda **settings: open_page(html, **settings)


def sought(page: Page) -> float:
    """Where the first recording's audio is after it was sought."""
    wait_for(page, f"{_AUDIO}.readyState > 0 && !{_AUDIO}.seeking")
    position: float = page.evaluate(f"{_AUDIO}.currentTime")
    return position


def playhead(page: Page) -> float:
    """Seconds at which the first playhead is, by its position on the screen."""
    share: float = page.evaluate(
        """() => {
            const [overlay, head] = [".overlay", ".playhead"].map(
                (name) => document.querySelector(name).getBoundingClientRect());
            return (head.left + head.width / 2 - overlay.left) / overlay.width;
        }"""
    )
    return 6 * share


def test_a_click_plays_the_window_under_it(open_html: Callable[..., Page]) -> None:
    page = open_html()
    overlay = page.locator(".overlay").first
    box = overlay.bounding_box()
    assert box is not None
    overlay.click(position={"x": box["width"] * 2.1 / 6, "y": 100})
    assert page.locator(".chosen-window").first.text_content() == (
        "Window 0:01.00 to 0:03.00: score -1.2500, below the threshold"
    )
    assert 1 <= sought(page) < 3 and 0.99 <= playhead(page) < 3
    chosen = page.locator(".chosen").first.bounding_box()
    assert chosen is not None and chosen["width"] == pytest.approx(box["width"] / 3, abs=1)
    overlay.click(position={"x": box["width"] * 5.9 / 6, "y": 10})
    assert "Window 0:04.00 to 0:06.00" in (page.locator(".chosen-window").first.text_content() or "")


def test_a_click_where_no_window_is(open_page: OpenPage, tmp_path: Path) -> None:
    noise = trial_of(np.random.default_rng(0).normal(0, 0.1, 6 * 16_000), 16_000)
    first = replace(make_detection([1.0]), seconds=6.0, hop=None, aggregate="first")
    write_inspection(tmp_path / "first.html", [first], [noise], InspectionContext("demo"))
    page = open_page(tmp_path / "first.html")
    box = page.locator(".overlay").bounding_box()
    assert box is not None
    page.locator(".overlay").click(position={"x": box["width"] * 4 / 6, "y": 100})
    assert (page.locator(".chosen-window").text_content() or "").endswith("in no window, and not scored")
    assert 3.9 <= sought(page) < 6


def test_windows_from_the_keyboard(open_html: Callable[..., Page]) -> None:
    page = open_html()
    overlay = page.get_by_role("slider").first
    overlay.focus()
    text = page.locator(".chosen-window").first
    for key, window in (("ArrowRight", "0:00.00"), ("ArrowRight", "0:00.50"), ("End", "0:04.00"), ("Home", "0:00.00")):
        page.keyboard.press(key)
        assert (text.text_content() or "").startswith(f"Window {window} to")
        assert (overlay.get_attribute("aria-valuetext") or "").startswith(f"Window {window} to")
    assert page.evaluate(f"{_AUDIO}.paused"), "choosing does not play"
    page.keyboard.press("PageUp")
    page.keyboard.press("Enter")
    assert 0.5 <= sought(page) < 2.5
    assert not page.evaluate(f"{_AUDIO}.paused")
    page.keyboard.press("Space")
    assert page.evaluate(f"{_AUDIO}.paused")


def test_tables_have_buttons_that_play(open_html: Callable[..., Page]) -> None:
    page = open_html()
    page.locator("table.segments button").first.press("Enter")
    assert (page.locator(".chosen-window").first.text_content() or "").startswith("Segment 0:01.75 to 0:02.75")
    assert 1.75 <= sought(page) < 2.75
    page.locator(".windows summary").first.click()
    page.locator(".windows button").nth(4).click()
    assert page.locator("tr.current").first.inner_text().startswith("0:02.00")


def test_playing_stops_at_the_end_of_the_window(open_html: Callable[..., Page]) -> None:
    page = open_html()
    page.get_by_role("slider").first.focus()
    page.keyboard.press("End")
    page.locator("audio").first.evaluate("audio => { audio.playbackRate = 16; }")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    wait_for(page, f"{_AUDIO}.currentTime >= 2 && {_AUDIO}.paused")
    assert page.evaluate(f"{_AUDIO}.currentTime") < 6


def test_without_scripts_all_numbers_are_there(open_html: Callable[..., Page]) -> None:
    page = open_html(java_script_enabled=False)
    for text in ("0.5833", "no such file", "ab" * 32):
        assert page.get_by_text(text).first.is_visible()
    assert page.locator("table.segments tbody tr").first.inner_text().split() == [
        *("0:01.75", "0:02.75", "-0.8750", "-1.2500", "2")
    ]
    assert page.locator(".recording img").first.is_visible() and page.locator("audio").first.is_visible()


@pytest.mark.parametrize("width", [320, 375, 820])
def test_no_sideways_scrolling(open_html: Callable[..., Page], width: int) -> None:
    page = open_html(viewport={"width": width, "height": 700})
    for summary in page.locator(".windows summary").all():
        summary.click()
    assert overflow(page) <= 0
    index = page.locator("#index")
    assert index.locator(".more-columns").is_visible() == index.locator(".scroll").evaluate(
        "region => region.scrollWidth > region.clientWidth + 1"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_its_background(open_html: Callable[..., Page], scheme: str) -> None:
    page = open_html(color_scheme=scheme)
    page.locator(".overlay").first.click(position={"x": 100, "y": 10})
    texts = page.evaluate(_COLOURS)
    assert len(texts) > 80 and page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 24, 28)"
    )
    low = {text: contrast(colour, background) for text, colour, background in texts}
    assert {text: found for text, found in low.items() if found < 4.5} == {}


def contrast(colour: list[float], background: list[float]) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(channels: list[float]) -> float:
        share = np.array(channels[:3]) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    lower, higher = sorted((luminance(colour), luminance(background)))
    return (higher + 0.05) / (lower + 0.05)


def test_print(open_html: Callable[..., Page]) -> None:
    page = open_html(viewport={"width": 700, "height": 990}, color_scheme="dark")
    page.locator(".overlay").first.click(position={"x": 100, "y": 10})
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for name in ("audio", ".playhead", ".chosen", ".chosen-window"):
        assert not page.locator(name).first.is_visible()
    assert page.locator("svg.scores").first.is_visible() and overflow(page) <= 0
