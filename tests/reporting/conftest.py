"""Systems and pages that the tests of reporting share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
import soundfile

from spectra_jax.data.labels import Labels, read_labels
from spectra_jax.data.score_files import Scores
from spectra_jax.inference.detection import Detection, Window, find_segments
from spectra_jax.inference.thresholds import Threshold
from spectra_jax.reporting.console import SafeConsole
from tests.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog
    from playwright.sync_api import Page as BrowserPage

OpenPage: TypeAlias = "Callable[..., BrowserPage]"

N = 400
HOSTILE = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """The tables, elements and text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "a":
            return  # its text is that of the cell or paragraph around it
        self._open = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag != "a":
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self._open == "h2":
            self.headings[-1] += data
        elif self._open == "script":
            self.scripts[-1] += data
        if self._open not in ("script", "style"):
            self.text += data

    def rows(self) -> Iterator[list[str]]:
        for table in self.tables:
            yield from table


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """first.csv, second.csv and labels.csv: attacks, rank gaps, and one trial with a hostile id.

    The systems differ by 0.02 at three trials with a near tie, and by 0.5 at trial_0005, which has none.
    """
    path = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    bonafide = np.arange(N) < N // 4
    attack = np.where(bonafide, "-", np.array(["A01", "A02", "A<b>3"])[np.arange(N) % 3])
    ids = [HOSTILE, *(f"trial_{index:04d}" for index in range(1, N))]
    first = random.normal(np.where(bonafide, 1.5, -1.5), 1.0)
    first[0] = -9.0
    gaps = 10 ** random.uniform(-8, -3, N)
    gaps[5] = 1e-3
    second = first + 1e-6
    second[np.argsort(gaps)[:3]] += (0.02, -0.02, 0.02)
    second[5] += 0.5
    gaps_of = {"first": gaps, "second": np.abs(gaps + random.uniform(-2e-7, 2e-7, N))}
    rows = zip(ids, bonafide, attack, strict=True)
    lines = [f"{identity},{'bonafide' if own else 'spoof'},{a}" for identity, own, a in rows]
    (path / "labels.csv").write_text("utterance_id,label,attack\n" + "\n".join(lines) + "\n")
    for name, scores in (("first", first), ("second", second)):
        lines = [f"{i},{float(s)!r},{float(g)!r}" for i, s, g in zip(ids, scores, gaps_of[name], strict=True)]
        (path / f"{name}.csv").write_text("utterance_id,score,smallest_rank_gap\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def labels(folder: Path) -> Labels:
    return read_labels(folder / "labels.csv")


@pytest.fixture(scope="session")
def html(folder: Path, labels: Labels) -> str:
    """The page of both systems."""
    pytest.importorskip("altair", reason="needs the extra `report`")
    from spectra_jax.reporting.page import write_report

    output = folder / "report.html"
    command = ["spectra-jax", "report", "a b"]
    write_report([folder / "first.csv", folder / "second.csv"], output, labels=labels, resamples=100, command=command)
    return output.read_text()


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """s.csv with the scores of twenty clips of ten seconds, and the clips in audio/."""
    random = np.random.default_rng(4)
    (tmp_path / "audio").mkdir()
    lines = ["utterance_id,score,label,path"]
    for index in range(20):
        soundfile.write(tmp_path / "audio" / f"c{index}.wav", random.normal(0, 0.1, 160_000), 16_000)
        lines.append(f"c{index},{index % 7},{'bonafide' if index % 2 else 'spoof'},audio/c{index}.wav")
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


LONG_IDS = np.array(
    [f"corpus-of-a-long-name/speaker_{i:03d}/utterance_{i:06d}_with_a_tail" for i in range(120)], object
)
LONG_ATTACKS = ("tts_models--multilingual--multi-dataset--xtts_v2", "A07")
LONG_POOL = "branch2.pool_t_of_a_graph_with_a_long_name"


@pytest.fixture(scope="session")
def long_names() -> tuple[Scores, Scores, Labels]:
    """Two systems whose files, trials, attacks and pools have names longer than a terminal is wide, and labels."""
    n, random = len(LONG_IDS), np.random.default_rng(0)
    bonafide = np.arange(n) < n // 3
    scores = random.normal(size=n) + 2 * bonafide
    columns = {"smallest_rank_gap": np.full(n, 1e-3), "rank_gap_pool": np.full(n, LONG_POOL, object)}
    one = Scores("runs/of/last/week/on/the/big/machine/scores_of_jax.csv", LONG_IDS, scores, columns)
    other = Scores("runs/of/last/week/scores_of_torch.csv", LONG_IDS, scores + random.normal(scale=0.1, size=n))
    attack = np.where(bonafide, "-", np.array(LONG_ATTACKS, object)[np.arange(n) % 2]).astype(object)
    return one, other, Labels("labels", LONG_IDS, bonafide, {"attack": attack})


def check_nothing_truncated(printed: str, width: int, texts: list[str]) -> None:
    """Check that tables fit a terminal of 60 columns or more, and that each text is in one column, folded or not."""
    lines = printed.splitlines()
    assert "…" not in printed
    assert width < 60 or max(map(len, lines)) <= width
    rows = [[cell.strip() for cell in line.strip("│┃").split("│" if "│" in line else "┃")] for line in lines]
    columns = ["".join(row[index] for row in rows if index < len(row)) for index in range(max(map(len, rows)))]
    for text in texts:
        assert any(text.replace(" ", "") in column.replace(" ", "") for column in columns), text


@pytest.fixture
def hostile() -> tuple[SafeConsole, str]:
    """A console like a terminal's, and a name with markup, terminal commands and a bidirectional override."""
    console = SafeConsole(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    return console, "[red]a[/red]\x1b[2J\x9b31m\u202eb"


def check_escaped(console: SafeConsole) -> None:
    """Check that the hostile name was printed, and with its control characters escaped."""
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert r"[red]a[/red]\x1b[2J\x9b31m\u202eb" in printed
    assert not any(mark in printed for mark in ("\x1b[2J", "\x9b", "\u202e"))


def make_window(index: int, score: float, *, counts: bool = True, flags: tuple[str, ...] = ()) -> Window:
    """A window of two seconds, with one every half second."""
    return Window(index / 2, index / 2 + 2, (-score, score), 0.5, counts, flags)


def make_detection(
    scores: Sequence[float], *, threshold: float | None = None, name: str = "a.wav", **fields: Any
) -> Detection:
    """The detection of a recording with windows of these scores."""
    windows = tuple(make_window(index, score) for index, score in enumerate(scores))
    known: dict[str, Any] = {
        "heard_seconds": windows[-1].end,
        "windows": windows,
        "hop": 0.5,
        "window_seconds": 2.0,
        "aggregate": "speech-mean",
    }
    if threshold is not None:
        known |= {"threshold": Threshold(threshold), "segments": find_segments(windows, threshold)}
    mean = sum(scores) / len(scores)
    return Detection(name, (-mean, mean), windows[-1].end, **(known | fields))


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a file, with keywords of a browser context; at the end checks that nothing else was fetched, or logged."""
    logged: list[str] = []
    fetched: list[str] = []
    opened: list[str] = []
    contexts: list[BrowserContext] = []

    def dismiss(dialog: Dialog) -> None:
        logged.append("a dialog")
        dialog.dismiss()

    def open_file(path: Path, **settings: Any) -> BrowserPage:
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: logged.append(message.text))
        page.on("pageerror", lambda error: logged.append(str(error)))
        page.on("dialog", dismiss)
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(path.as_uri())
        opened.append(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert logged == []
    assert {url for url in fetched if not url.startswith("data:")} == set(opened)


def overflow(page: BrowserPage) -> int:
    """By how many pixels the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return width


def wait_for(page: BrowserPage, script: str) -> None:
    """Wait until an expression of JavaScript holds in a page.

    Asked from here, again and again: a promise could wait for an event that has passed, with no limit, and Playwright's
    own `wait_for_function` needs `eval`, which the pages' policy refuses.
    """
    wait_until(lambda: page.evaluate(script), script, seconds=30)
