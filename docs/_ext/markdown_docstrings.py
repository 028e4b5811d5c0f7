"""Docstrings as Markdown for autodoc, and a check that every public name is documented.

The docstrings of this package are Markdown (tables, indented code, names in backticks) with Google's sections (`Args:`,
`Raises:`, ...), which become lists. A name in backticks that is documented on the site becomes a link.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import spectra_jax
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils import new_document
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

_TITLES = {
    "Args": "Parameters",
    "Arguments": "Parameters",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
    "Example": "Example",
    "Examples": "Examples",
    "Note": "Note",
    "Notes": "Notes",
    "References": "References",
}
_LISTS = {"Args", "Arguments", "Attributes", "Raises"}
_SECTION = re.compile(rf"({'|'.join(_TITLES)}):\s*$")
# `name: text`, `one, other: text` or `name (type): text`.
_ITEM = re.compile(r"([*\w.]+(?:, [*\w.]+)*)(?: \([^)]*\))?: (.*)")
_NAME = re.compile(r"(?<![`\w}])`(spectra_jax(?:\.\w+)+)`(?!`)")


def to_markdown(docstring: str) -> str:
    """Turn the Google sections of a docstring, dedented, into titles and lists; the rest is Markdown as it is."""
    lines, written = docstring.splitlines(), []
    while lines:
        line = lines.pop(0)
        section = _SECTION.match(line)
        if section is None:
            written.append(line)
            continue
        body = []
        while lines and (not lines[0].strip() or lines[0].startswith(" ")):
            body.append(lines.pop(0))
        name, text = section[1], inspect.cleandoc("\n".join(["", *body]))
        written += ["", f"**{_TITLES[name]}**", "", *(_items(text) if name in _LISTS else [text]), ""]
    return "\n".join(written)


def _items(text: str) -> Iterator[str]:
    """The items of a section as a Markdown list. Lines that are indented further belong to the item above them."""
    for line in text.splitlines():
        item = _ITEM.match(line)
        if item is not None:
            names = ", ".join(f"`{name}`" for name in item[1].split(", "))
            yield f"- {names}: {item[2]}"
        else:
            yield f"  {line}" if line.strip() else ""


def linked(text: str, documented: frozenset[str]) -> str:
    """Turn each documented name in backticks into a reference."""

    def reference(match: re.Match[str]) -> str:
        return f"{{py:obj}}`{match[1]}`" if match[1] in documented else match[0]

    return _NAME.sub(reference, text)


def public_names() -> dict[str, list[str]]:
    """The names that each module of the package exports in an `__all__`, but not private modules and commands."""
    modules = ["spectra_jax"]
    modules += [found.name for found in pkgutil.walk_packages(spectra_jax.__path__, "spectra_jax.")]
    exported = {}
    for name in modules:
        if "._" in name or name.split(".")[1:2] in (["cli"], ["__main__"], ["renamed"]):
            continue
        try:
            module = import_module(name)
        except ImportError:
            continue  # a module of an extra that is not installed
        exported[name] = list(getattr(module, "__all__", ()))
    return exported


class MarkdownText(Directive):
    """Markdown inside the reStructuredText that autodoc writes."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        document = new_document(self.state.document.current_source or "docstring", self.state.document.settings)
        MystParser().parse("\n".join(self.content), document)
        return document.children


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    del what, name, obj, options
    if not any(line.strip() for line in lines):
        return
    text = linked(to_markdown("\n".join(lines)), app.documented_names)  # type: ignore[attr-defined]
    lines[:] = [".. markdown-text::", "", *(f"   {line}" for line in text.splitlines()), ""]


def _check_all_documented(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    written = set(app.env.get_domain("py").objects)  # type: ignore[attr-defined]
    for module, names in public_names().items():
        for name in names:
            value = getattr(import_module(module), name)
            addresses = {f"{module}.{name}", f"spectra_jax.{name}", *_addresses_of(value)}
            if inspect.ismodule(value) or written & addresses:
                continue
            logger.warning("%s.%s is exported, but no page of docs/api documents it", module, name)


def _addresses_of(value: Any) -> set[str]:
    """Where else a class or function may be documented: in any package that exports the same object."""
    return {
        f"{module}.{name}"
        for module, names in public_names().items()
        for name in names
        if getattr(import_module(module), name, None) is value
    }


def setup(app: Sphinx) -> dict[str, Any]:
    names = public_names()
    documented = {f"{module}.{name}" for module, exported in names.items() for name in exported}
    app.documented_names = frozenset(documented)  # type: ignore[attr-defined]
    app.add_directive("markdown-text", MarkdownText)
    app.connect("autodoc-process-docstring", _process)
    app.connect("build-finished", _check_all_documented)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
