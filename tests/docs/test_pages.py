"""How the blocks of a page are read, and when output counts as what a page shows."""

from __future__ import annotations

import pytest

from tests.docs.pages import Block, matches, steps


def test_console_blocks_are_commands_with_their_outputs() -> None:
    lines = ("$ cat > a <<END", "> 1", ">", "> END", "$ cat a", "1", "", "$ true")
    found = list(steps(Block("console", lines, 10, None)))
    assert [step.source for step in found] == ["cat > a <<END\n1\n\nEND", "cat a", "true"]
    assert [step.expected for step in found] == [(), ("1",), ()]
    assert [step.start for step in found] == [14, 15, 18]


def test_a_console_block_without_a_command_is_refused() -> None:
    with pytest.raises(ValueError, match="line 11: a console block starts with a command"):
        list(steps(Block("console", ("1.0",), 10, None)))


def test_statements_have_their_outputs() -> None:
    lines = (">>> if True:", "...     x = 1", "...", ">>> x", "1")
    found = list(steps(Block("pycon", lines, 5, None)))
    assert [(step.expected, step.start) for step in found] == [((), 8), (("1",), 9)]


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        ("score 1.2345", "score 1.2346", True),
        ("score 1.2345", "score 1.4", False),
        ("score 1.2345", "score one", False),
        ("12 clips", "13 clips", False),
        ("took ... s", "took 12.3 s", True),
        ("took ... s", "took 12.3 min", False),
        ("┏━━━┓", "┏━━━━━┓", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a\n...\nd", "a\nd", True),
        ("a\n...\nd", "a\nb", False),
        ("a", "a\nb", False),
        ("a\nb", "a", False),
    ],
)
def test_outputs_match(expected: str, found: str, same: bool) -> None:
    assert matches(tuple(expected.split("\n")), tuple(found.split("\n"))) is same
