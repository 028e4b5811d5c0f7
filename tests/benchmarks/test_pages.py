"""The documentation's pages of speeds are what the results files give."""

from __future__ import annotations

import pytest

from benchmarks.speed import pages


def test_the_pages_are_those_of_the_results_files() -> None:
    """`python -m benchmarks.speed pages` writes them."""
    generated = pages.generate()
    assert {path for path, text in generated.items() if path.read_text(encoding="utf-8") != text} == set()
    assert {page for page in generated if page.name != "speed.md"} == set(pages.REPORTS.glob(f"{pages.PATTERN}.md"))


def test_a_page_without_the_lines_of_a_table_is_refused() -> None:
    page = "before\n<!-- generated: a -->\nold\n<!-- end -->\nafter"
    assert pages.insert(page, "a", "new") == "before\n<!-- generated: a -->\n\nnew\n\n<!-- end -->\nafter"
    with pytest.raises(ValueError, match="no lines '<!-- generated: b -->'"):
        pages.insert(page, "b", "new")
