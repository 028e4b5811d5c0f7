"""Diagrams of `_static` inside the page instead of beside it, so that they have the colours of the theme.

In a page a diagram is an ordinary image, `![](../_static/network.svg)`, which other programs show as one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class InlineDiagrams(SphinxPostTransform):
    default_priority = 5  # before Sphinx collects the images
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            path = Path(self.env.srcdir, image["uri"])
            if image["uri"].startswith("_static/") and path.suffix == ".svg":
                image.replace_self(nodes.raw("", path.read_text(encoding="utf-8"), format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_post_transform(InlineDiagrams)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
