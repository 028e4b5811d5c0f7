"""Sphinx's configuration of the site. `make docs` builds it into docs/_build, with every warning an error."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import spectra_jax

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "spectra-jax"
author = "the spectra-jax authors"
project_copyright = author
version = release = spectra_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "markdown_docstrings",
    "command_help",
    "inline_diagrams",
    "self_contained",
]
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints"]

# Markdown
myst_enable_extensions = ["deflist", "colon_fence", "attrs_inline", "attrs_block"]
myst_heading_anchors = 4
# The notebooks are committed with their outputs, and their own test runs them.
nb_execution_mode = "off"
# Widgets load their scripts from a content delivery network, and these pages fetch nothing.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

# The API reference
autodoc_default_options = {"members": True, "member-order": "bysource", "special-members": "__call__"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
# Types in signatures may be of other libraries, whose documentation is not read because the build is offline, or
# internal. The names of this package that pages and docstrings refer to, with `py:obj`, are all checked.
nitpick_ignore_regex = [(r"py:(?!obj$).*", r".*"), (r"py:obj", r"(?!spectra_jax\b).*")]

# The site
html_theme = "furo"
html_title = "spectra-jax"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "native"

# Copying a console block copies its commands alone.
copybutton_prompt_text = r"\$ |> |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True


def _root_file(app: Sphinx, page: str, source: list[str]) -> None:
    """Put CONTRIBUTING.md, whose links start at the repository's root, in place of its page."""
    del app
    if page != "develop/contributing":
        return
    file = HERE.parent / "CONTRIBUTING.md"
    if not file.exists():
        source[0] = "# Contributing\n\n`CONTRIBUTING.md` is not part of these sources.\n"
        return
    text = file.read_text(encoding="utf-8").replace("](docs/", "](../").replace("](CHANGELOG.md", "](changelog.md")
    # Files of the repository that are on no page are named.
    source[0] = re.sub(r"\[([^]]+)\]\((?!\w+:|\.\./|#|changelog)([^)]+)\)", r"\1 (`\2`)", text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", _root_file)
