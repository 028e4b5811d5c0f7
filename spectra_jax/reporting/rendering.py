"""Render the page: the template, the charts with the library that draws them, and a policy that forbids all else."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spectra_jax.reporting.charts.chart import VEGA_LITE, system_key
from spectra_jax.reporting.sections import Section
from spectra_jax.reporting.systems import System


def render(title: str, systems: Sequence[System], sections: Sequence[Section]) -> str:
    """The page as HTML; sections without content are listed at its end, with the reason."""
    shown = [section for section in sections if not section.empty]
    drawn = [chart for section in shown for chart in section.charts]
    scripts = [_vega(), _template_file("page.js")]
    environment = Environment(
        loader=PackageLoader("spectra_jax.reporting", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        title=title,
        systems=systems,
        keys=[system_key(index, system.name) for index, system in enumerate(systems)],
        sections=shown,
        left_out=_left_out(sections),
        specs=_json_for_script({f"chart-{index}": chart.spec for index, chart in enumerate(drawn)}),
        chart_number={id(chart): index for index, chart in enumerate(drawn)},
        identity=id,
        policy=security_policy(scripts),
        style=Markup(_template_file("style.css")),
        scripts=[Markup(script) for script in scripts],
    )


def security_policy(scripts: Sequence[str]) -> str:
    """A content security policy under which the page fetches nothing and runs these scripts only."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _left_out(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """The titles of sections without content, by their reason: ("Metrics, Attacks", "No labels ...")."""
    titles: dict[str, list[str]] = {}
    for section in sections:
        if section.empty:
            titles.setdefault(section.lead, []).append(section.title)
    return [(", ".join(own), reason) for reason, own in titles.items()]


def _template_file(name: str) -> str:
    return files("spectra_jax.reporting").joinpath("template", name).read_text(encoding="utf-8")


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return script.replace("</script", "<\\/script")


def _json_for_script(value: Mapping[str, Any]) -> Markup:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # Ids are untrusted: nothing in them may end the script element.
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
