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
from operator import attrgetter
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils import new_document
from flax import nnx
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.inspect import stringify_signature

import spectra_jax

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
_AUTOMODULE = re.compile(r"^\.\. automodule:: (\S+)", re.MULTILINE)
# A block of code, which is left as it is.
_FENCE = re.compile(r"^(`{3,}).*?^\1`*$", re.MULTILINE | re.DOTALL)
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


def linked(text: str, addresses: dict[str, str]) -> str:
    """Turn each name in backticks that the site documents into a reference to where it does."""

    def reference(match: re.Match[str]) -> str:
        address = addresses.get(match[1])
        return match[0] if address is None else f"{{py:obj}}`{match[1]} <{address}>`"

    return _NAME.sub(reference, text)


def unknown_names(text: str) -> list[str]:
    """The names of this package in backticks that nothing in it has."""
    return [name for name in _NAME.findall(text) if not _exists(name)]


def _exists(name: str) -> bool:
    """Whether a dotted name is that of a module, or of what a module or a class in it has."""
    parts = name.split(".")
    for known in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:known]))
        except ImportError:
            continue
        try:
            return attrgetter(".".join(parts[known:]))(found) is not None if parts[known:] else True
        except AttributeError:
            return False
    return False


def documented_modules(docs: Path) -> list[str]:
    """The modules that the pages of the API reference document, in the order in which a name is looked for."""
    pages = sorted((docs / "api").glob("*.md"))
    return [name for page in pages for name in _AUTOMODULE.findall(page.read_text(encoding="utf-8"))]


def public_names(module: str) -> list[str]:
    """The names that a module exports: its `__all__`, or all that it defines without an underscore in front."""
    found = import_module(module)
    if hasattr(found, "__all__"):
        return list(found.__all__)
    return [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]


def home(module: str, name: str) -> str:
    """The one address at which a name is documented, of all the modules that export it.

    Names of the package itself are documented there, those of `encoders` and `errors` there, all else where asked for.
    """
    value = getattr(import_module(module), name)
    for first in ("spectra_jax", "spectra_jax.encoders", "spectra_jax.errors"):
        if getattr(import_module(first), name, None) is value:
            return f"{first}.{name}"
    return f"{module}.{name}"


def addresses_of(modules: list[str]) -> dict[str, str]:
    """Where each public name of these modules is documented, by each address that it has."""
    addresses = {module: module for module in modules}
    for module in modules:
        for name in public_names(module):
            addresses[f"{module}.{name}"] = home(module, name)
    return addresses


def exported() -> list[tuple[str, str]]:
    """Each module and name that is exported in an `__all__` of the package."""
    modules = ["spectra_jax", *(found.name for found in pkgutil.walk_packages(spectra_jax.__path__, "spectra_jax."))]
    names = []
    for module in modules:
        if module.split(".")[1:2] in (["cli"], ["__main__"]):
            continue
        try:
            found = import_module(module)
        except ImportError:
            continue  # a module of an extra that is not installed
        names += [(module, name) for name in getattr(found, "__all__", ())]
    return names


class MarkdownText(Directive):
    """Markdown inside the reStructuredText that autodoc writes."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        document = new_document(self.state.document.current_source or "docstring", self.state.document.settings)
        MystParser().parse("\n".join(self.content), document)
        return document.children


def setup(app: Sphinx) -> dict[str, Any]:
    addresses = addresses_of(documented_modules(Path(app.srcdir)))

    def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        del app, options
        if what == "data" and " ".join(lines).split() == (type(obj).__doc__ or "").split():
            lines.clear()  # a constant without a docstring has that of its type
        if lines[:1] == ["Call self as a function."]:
            lines.clear()  # a method `__call__` without a docstring has that of `type`
        if any(line.strip() for line in lines):
            text = "\n".join(lines)
            for unknown in unknown_names(text):
                logger.warning("the docstring of %s names %s, which does not exist", name, unknown)
            text = linked(to_markdown(text), addresses)
            lines[:] = [".. markdown-text::", "", *(f"   {line}" for line in text.splitlines()), ""]

    def read_page(app: Sphinx, page: str, source: list[str]) -> None:
        """Link names in backticks in a page too, outside its blocks of code."""
        del app
        text, end, written = source[0], 0, []
        for fence in _FENCE.finditer(text):
            written += [linked(text[end : fence.start()], addresses), fence[0]]
            end = fence.end()
        source[0] = "".join([*written, linked(text[end:], addresses)])
        for unknown in unknown_names(_FENCE.sub("", text)):
            logger.warning("%s names %s, which does not exist", page, unknown)

    def signature(
        app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returned: str | None
    ) -> tuple[str, str | None] | None:
        """The signature of a network's constructor, which its metaclass hides, and defaults that read as code."""
        del app, name, options
        if arguments is None:
            return None
        if what == "class" and issubclass(obj, nnx.Module):
            of_init = inspect.signature(obj.__init__)
            without_self = of_init.replace(parameters=list(of_init.parameters.values())[1:])
            arguments, returned = stringify_signature(without_self, unqualified_typehints=True), None
        return re.sub(r"<class '([\w.]+)'>", r"\1", arguments), returned

    def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
        """Leave out of a module's page what another page documents."""
        del obj, skipped, options
        module = app.env.current_document.autodoc_module
        if what == "module" and module and name in public_names(module) and home(module, name) != f"{module}.{name}":
            return True
        return None

    def check(app: Sphinx, error: Exception | None) -> None:
        """Warn of exported classes and functions that no page documents."""
        if error is not None or app.builder.format != "html":
            return
        written = set(app.env.domains.python_domain.objects) | set(app.env.domains.python_domain.modules)
        for module, name in exported():
            # Constants are documented where a page names them, with `autodata`.
            value = getattr(import_module(module), name)
            if (inspect.isclass(value) or inspect.isroutine(value)) and home(module, name) not in written:
                logger.warning("%s.%s is exported, but no page of docs/api documents it", module, name)

    app.add_directive("markdown-text", MarkdownText)
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
