"""The page at / in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

for _package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "jinja2", "playwright"):
    pytest.importorskip(_package, reason="needs the extras `serve` and `report`, and playwright")

from tests.engine_stand_in import stand_in_scorer  # noqa: E402
from tests.inference.clips import levels  # noqa: E402
from tests.serving.recordings import wav  # noqa: E402
from tests.serving.running import Running, running  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as BrowserPage

pytestmark = pytest.mark.slow


@pytest.fixture
def service() -> Iterator[Running]:
    with running(stand_in_scorer(levels), api_key="key") as service:
        yield service


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[BrowserPage]:
    """The page. At the end checks that nothing was fetched from elsewhere, and that no policy was violated."""
    context = browser.new_context()
    page = context.new_page()
    fetched: list[str] = []
    logged: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("console", lambda message: logged.append(message.text))
    address = f"http://127.0.0.1:{service.port}/"
    page.goto(address)
    yield page
    context.close()
    assert [url for url in fetched if not url.startswith((address, "data:", "blob:"))] == []
    assert [text for text in logged if "status of 40" not in text] == []


def test_a_recording_is_shown_as_inspect_shows_it(page: BrowserPage) -> None:
    assert page.locator("text=It is not a verdict").is_visible()
    page.get_by_label("API key").fill("key")
    page.get_by_label("Threshold").fill("0.5")
    page.locator("#file").set_input_files({"name": "a.wav", "mimeType": "audio/wav", "buffer": wav(seconds=6)})
    page.get_by_role("button", name="Score").focus()
    page.keyboard.press("Enter")
    page.locator("text=a.wav is scored.").wait_for()
    frame = page.frame_locator("#result")
    assert frame.locator("h1").inner_text() == "Inspection of a recording"
    # Its script ran, which the policy of the page around it has to permit.
    frame.locator("#theme").wait_for(state="visible")
    assert page.locator("#download").get_attribute("href").startswith("blob:")  # type: ignore[union-attr]


def test_a_dropped_recording_without_the_key_is_explained(page: BrowserPage) -> None:
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["text"], "notes.txt"));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    page.locator("#status.failed").wait_for()
    assert "needs its API key" in page.locator("#status").inner_text()
    page.get_by_label("API key").fill("key")
    page.get_by_role("button", name="Score").click()
    page.locator("text=notes.txt: a text file").wait_for()
    assert page.locator("#result").is_hidden()
