"""What the project's pages share: their templates, and a policy under which they fetch nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined


def template_environment() -> Environment:
    """The environment of the templates, which escapes all text."""
    return Environment(
        loader=PackageLoader("spectra_jax.reporting", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template_file(name: str) -> str:
    """The text of a file in the folder of the templates."""
    return files("spectra_jax.reporting").joinpath("template", name).read_text(encoding="utf-8")


def security_policy(scripts: Sequence[str]) -> str:
    """A content security policy under which the page fetches nothing and runs these scripts only."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
