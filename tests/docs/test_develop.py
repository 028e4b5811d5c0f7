"""What the pages for developers name exists: files, functions, classes, targets of make."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT

PAGES = [*sorted((DOCS / "develop").glob("*.md")), ROOT / "CONTRIBUTING.md"]

_FENCE = re.compile(r"(?ms)^(`{3,})[^\n]*\n.*?^\1$")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_PATH = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|toml)")
# A file whose name the reader chooses, such as `spectra_jax/cli/COMMAND.py`.
_CHOSEN = re.compile(r"/[A-Z]+\.py$")
# `name(arguments)`, `a_name`, `module.name`, `ClassName`, `CONSTANT`. Other words may be options, labels or prose.
_CALL = re.compile(r"([\w.]+)\([\w, ]*\)")
_NAME = re.compile(r"[\w.]*(?:_|\w\.(?=\w)|[a-z][A-Z])[\w.]*|[A-Z]\w+")
_MADE_BY_COMMANDS = {"docs/_build"}


def quoted(page: Path) -> Iterator[str]:
    """What a page has in single backticks, outside of blocks of code."""
    for match in _CODE.finditer(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        yield match[1]


@cache
def identifiers() -> tuple[set[str], set[str]]:
    """The identifiers of the package's and the tests' code, and those among them that a `def` or `class` defines."""
    used: set[str] = set()
    defined: set[str] = set()
    for file in {path for folder in ("spectra_jax", "convert", "tests") for path in (ROOT / folder).rglob("*.py")}:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                used |= {part for alias in node.names for part in alias.name.split(".")}
                used |= set((getattr(node, "module", "") or "").split("."))
    return used | defined, defined


def exists(path: str) -> bool:
    """Whether the repository has a path, from its top or from the package, or a test folder has a file of this name."""
    return any((root / path).exists() for root in (ROOT, ROOT / "spectra_jax")) or any(ROOT.glob(f"tests/**/{path}"))


def is_missing(text: str) -> bool:
    """Whether a quoted text names something that the repository lacks."""
    if text.startswith("make "):
        targets = re.findall(r"(?m)^([\w -]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
        return text.removeprefix("make ") not in " ".join(targets).split()
    if _PATH.fullmatch(text):
        return text not in _MADE_BY_COMMANDS and not exists(_CHOSEN.sub("", text))
    used, defined = identifiers()
    if call := _CALL.fullmatch(text):
        return not set(call[1].split(".")) <= defined
    return bool(_NAME.fullmatch(text)) and not set(text.split(".")) <= used


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page: Path) -> None:
    assert [text for text in quoted(page) if is_missing(text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "spectra_jax/cli/missing.py",
        "spectra_jax/missing/NAME.py",
        "metrics/bootstrap.py",
        "missing/",
        "missing.toml",
        "Counts.of_nothing(bonafide)",
        "spectra_jax.Missing",
        "MissingClass",
        "missing_name",
        "make missing",
    ],
)
def test_a_name_that_does_not_exist_is_found(text: str) -> None:
    assert is_missing(text)


@pytest.mark.parametrize("text", ["console", "> ", "needs-hub", "mypy --strict", "Args:", "...", "train --init", "jit"])
def test_other_words_are_not_taken_for_names(text: str) -> None:
    assert not is_missing(text)
