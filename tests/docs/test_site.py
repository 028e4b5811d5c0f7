"""The site builds without a warning, documents every public name, and loads nothing from other sites.

The build itself checks the last two: docs/_ext/markdown_docstrings.py and docs/_ext/self_contained.py.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import DOCS, REASONS

pytest.importorskip("sphinx", reason="needs the extra `docs`")


def extension(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", str(DOCS), str(tmp_path / "site")]
    # pytest's variables aside, as `make docs` runs it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    pages = {str(page.relative_to(tmp_path / "site")) for page in tmp_path.rglob("*.html")}
    assert {"index.html", "get-started.html", "guides/train.html", "api/audio.html", "concepts/glossary.html"} <= pages


@pytest.mark.parametrize(
    "page",
    [
        '<script async src="https://cdn.example.org/a.js"></script>',
        "<script src=//cdn.example.org/a.js></script>",
        '<link rel="stylesheet" href="http://fonts.example.org/a.css">',
        '<link href="https://fonts.example.org" rel="preconnect">',
        '<img alt="a" src="https://example.org/a.png">',
        '<style>@import "https://fonts.example.org/a.css";</style>',
        "<style>@font-face { src: url(https://fonts.example.org/a.woff2); }</style>",
    ],
)
def test_what_a_page_loads_from_another_site_is_found(page: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(f"<html>{page}</html>")
    ((file, address),) = extension("self_contained").loaded_from_elsewhere(tmp_path)
    assert file == "index.html" and "example.org" in address


def test_links_and_own_files_are_allowed(tmp_path: Path) -> None:
    page = '<a href="https://example.org"></a><link rel="stylesheet" href="_static/a.css"><script src="a.js"></script>'
    (tmp_path / "index.html").write_text(page)
    assert extension("self_contained").loaded_from_elsewhere(tmp_path) == []


def test_docstrings_are_turned_into_markdown() -> None:
    docstring = "A clip.\n\nArgs:\n  x, y: where, as\n    `z` has it.\n\nRaises:\n  ValueError: no clip.\n"
    lines = extension("markdown_docstrings").to_markdown(docstring).splitlines()
    assert [line for line in lines if line] == [
        "A clip.",
        "**Parameters**",
        "- `x`, `y`: where, as",
        "    `z` has it.",
        "**Raises**",
        "- `ValueError`: no clip.",
    ]


def test_every_reason_is_printed_above_its_blocks() -> None:
    css = (DOCS / "_static" / "custom.css").read_text()
    assert [name for name, words in REASONS.items() if f".{name}" not in css or words not in css] == []


def test_names_in_backticks_have_to_exist() -> None:
    names = extension("markdown_docstrings").unknown_names(
        "`spectra_jax.audio`, `spectra_jax.Scorer.load`, `spectra_jax.scorer.load`, `spectra_jax.nothing`"
    )
    assert names == ["spectra_jax.scorer.load", "spectra_jax.nothing"]


def test_documented_names_in_backticks_become_references() -> None:
    text = extension("markdown_docstrings").linked(
        "`spectra_jax.load`, `load`", {"spectra_jax.load": "spectra_jax.load"}
    )
    assert text == "{py:obj}`spectra_jax.load <spectra_jax.load>`, `load`"
