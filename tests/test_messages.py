"""Text from outside on a terminal."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from spectra_jax.messages import printable
from spectra_jax.reporting.console import SafeConsole

BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\tc\rd", r"a\x0ab\x09c\x0dd"),
        ("\x7f\x80\x9b", r"\x7f\x80\x9b"),
        ("\u202e\u2066\u200f\u061c\u2028", r"\u202e\u2066\u200f\u061c\u2028"),
        ("byte\udcff", r"byte\udcff"),
        ("клип 剪辑 क्\u200dष été", "клип 剪辑 क्\u200dष été"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=20))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in shown)
    assert not any(unicodedata.bidirectional(one) in BIDIRECTIONAL for one in shown)
    # What is safe stays as it is.
    assert printable(shown) == shown
    assert printable(text, keep="\n").count("\n") == text.count("\n")


def test_a_console_escapes_what_it_prints_and_keeps_its_own_colours() -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, color_system="standard", width=80)
    grid = Table("\x9bname", title="[red]\u202etitle[/red]")
    grid.add_row(Text("a\x1b[2Jb"))
    console.print(grid)
    console.print("two\nlines \x1b]0;title\x07", markup=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    # A cell that was not made printable before is cut to its width, and is safe even so.
    assert r"a\x1b" in text and r"\u202etitle" in text
    assert "\x1b[2J" not in text and "\x1b]0" not in text and not set(text) & {"\x9b", "\u202e", "\x07"}
    assert "two\nlines" in text and "\x1b[3;31m" in text
