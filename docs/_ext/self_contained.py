"""Check after a build that no page loads a script, a style, a font or a picture from another site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# Links (`<a href>`) are followed when a reader asks for it; these are loaded with the page.
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon))[^>]*?\bhref=["']?((?:https?:)?//[^"'\s>]+)""",
    re.IGNORECASE,
)
_STYLE = re.compile(r"""@import\s+["']((?:https?:)?//[^"']+)|url\(\s*["']?((?:https?:)?//[^"')]+)""", re.IGNORECASE)


def loaded_from_elsewhere(site: Path) -> list[tuple[str, str]]:
    """Find what the pages and styles of a built site load from other sites: pairs of file and address."""
    found = []
    for pattern, expression in (("*.html", _LOADED), ("*.html", _STYLE), ("*.css", _STYLE)):
        for file in sorted(site.rglob(pattern)):
            text, name = file.read_text(encoding="utf-8"), str(file.relative_to(site))
            found += [(name, next(filter(None, match.groups()))) for match in expression.finditer(text)]
    return found


def check(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for file, address in loaded_from_elsewhere(Path(app.outdir)):
            logger.warning("%s loads %s, but the site must not fetch anything", file, address)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
