"""What the pages of the site show: their blocks of code, and the steps in them that the tests run.

The convention, which docs/develop/documentation.md explains to writers:

| block | what the tests do with it |
| --- | --- |
| `console` | run each line after `$ ` (continued after `> `) and compare its output with the lines below it |
| `pycon` | run each statement after `>>> ` and compare its output with the lines below it |
| `python` | run it |
| any of these with `:class: needs-...` | do not run it, check that its commands parse |
| anything else | nothing: it is output, or a file |
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if not page.relative_to(DOCS).parts[0].startswith("_")
)

# Why a block is not run, by the class that says so; docs/_static/custom.css prints the same words above the block.
REASONS = {
    "needs-hub": "needs the Hugging Face Hub",
    "needs-cluster": "needs a cluster",
    "needs-devices": "needs a GPU or a TPU",
    "needs-time": "takes minutes or hours",
    "needs-files": "needs files of your own",
    "needs-install": "installs packages",
}

_DIRECTIVE = re.compile(r"\{code-block\}\s*(\w+)")
_OPTION = re.compile(r":(\w+):\s*(.*)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
      language: its language, such as `console`.
      lines: its lines without options.
      start: the index in the page of the first of `lines`.
      reason: the class that says why it is not run; None for one that is run.
    """

    language: str
    lines: tuple[str, ...]
    start: int
    reason: str | None


@dataclass(frozen=True)
class Step:
    """One command or statement, and the output that the page shows below it.

    Attributes:
      source: a shell command, or Python.
      expected: the lines of its output; none where the page shows none.
      start: the index in the page of the first line after the command.
    """

    language: str
    source: str
    expected: tuple[str, ...]
    start: int


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order.

    Raises:
      ValueError: a block has a class `needs-...` that no table explains.
    """
    for token in MarkdownIt("commonmark").parse((DOCS / page).read_text(encoding="utf-8")):
        if token.type != "fence" or token.map is None:
            continue
        directive = _DIRECTIVE.match(token.info)
        language = directive[1] if directive else token.info.strip()
        lines, start, reason = token.content.splitlines(), token.map[0] + 1, None
        while directive and lines and (option := _OPTION.match(lines[0])):
            if option[1] == "class":
                (reason,) = option[2].split()
                if reason not in REASONS:
                    raise ValueError(f"{page}, line {start + 1}: class {reason!r} is none of {', '.join(REASONS)}")
            lines, start = lines[1:], start + 1
        while directive and lines and not lines[0]:  # between the options and the content
            lines, start = lines[1:], start + 1
        yield Block(language, tuple(lines), start, reason)


def steps(block: Block) -> Iterator[Step]:
    """The commands and statements of a block, with the output that is shown for each."""
    if block.language == "python":
        yield Step("python", "\n".join(block.lines), (), block.start + len(block.lines))
    elif block.language == "pycon":
        text = "\n".join(block.lines) + "\n"
        for example in doctest.DocTestParser().get_examples(text):
            after = example.lineno + 1
            while after < len(block.lines) and re.match(r"\.\.\.( |$)", block.lines[after]):
                after += 1
            yield Step("pycon", example.source, tuple(example.want.splitlines()), block.start + after)
    elif block.language == "console":
        yield from _console_steps(block)


def _console_steps(block: Block) -> Iterator[Step]:
    lines, index = block.lines, 0
    while index < len(lines):
        if not lines[index].startswith("$ "):
            raise ValueError(f"line {block.start + index + 1}: a console block starts with a command, after `$ `")
        command = [lines[index][2:]]
        index += 1
        while index < len(lines) and (lines[index] == ">" or lines[index].startswith("> ")):
            command.append(lines[index][2:])
            index += 1
        first = index
        while index < len(lines) and not lines[index].startswith("$ "):
            index += 1
        shown = lines[first:index]
        while shown and not shown[-1].strip():
            shown = shown[:-1]
        yield Step("console", "\n".join(command), shown, block.start + first)


# A number with a decimal point or an exponent. Whole numbers are compared as text.
_DECIMAL = re.compile(r"[-+]?\d+\.\d+(?:e[-+]?\d+)?|[-+]?\d+e[-+]?\d+")
_RULE = re.compile(r"[\s━─]+")
# Scores differ a little between kinds of CPUs, and the figures that are computed from them do too.
_RELATIVE, _ABSOLUTE = 1e-3, 5e-3


def matches(expected: tuple[str, ...], found: tuple[str, ...]) -> bool:
    """Whether output is as a page shows it: numbers nearly equal, and `...` in place of any text or any lines."""
    if not expected:
        return not found
    if expected[0].strip() == "...":
        return any(matches(expected[1:], found[skipped:]) for skipped in range(len(found) + 1))
    return bool(found) and _line_matches(expected[0], found[0]) and matches(expected[1:], found[1:])


def _line_matches(expected: str, found: str) -> bool:
    expected, found = (_RULE.sub(" ", line).strip() for line in (expected, found))
    pattern, end, numbers = "", 0, []
    for part in re.finditer(rf"\.\.\.|{_DECIMAL.pattern}", expected):
        pattern += re.escape(expected[end : part.start()])
        pattern += ".*?" if part[0] == "..." else f"({_DECIMAL.pattern})"
        numbers += [] if part[0] == "..." else [float(part[0])]
        end = part.end()
    match = re.fullmatch(pattern + re.escape(expected[end:]), found)
    if match is None:
        return False
    values = map(float, match.groups())
    return all(abs(a - b) <= _ABSOLUTE + _RELATIVE * abs(a) for a, b in zip(numbers, values, strict=True))
