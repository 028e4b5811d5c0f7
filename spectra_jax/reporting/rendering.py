"""Render the report: its template, and the charts with the library that draws them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import vl_convert
from markupsafe import Markup

from spectra_jax.reporting.charts.chart import VEGA_LITE, system_key
from spectra_jax.reporting.sections import Section
from spectra_jax.reporting.systems import System
from spectra_jax.reporting.templates import security_policy, template_environment, template_file


def render(title: str, systems: Sequence[System], sections: Sequence[Section]) -> str:
    """The page as HTML; sections without content are listed at its end, with the reason."""
    shown = [section for section in sections if not section.empty]
    drawn = [chart for section in shown for chart in section.charts]
    scripts = [_vega(), template_file("shared.js"), template_file("page.js")]
    return (
        template_environment()
        .get_template("page.html")
        .render(
            title=title,
            systems=systems,
            keys=[system_key(index, system.name) for index, system in enumerate(systems)],
            sections=shown,
            left_out=_left_out(sections),
            specs=_json_for_script({f"chart-{index}": chart.spec for index, chart in enumerate(drawn)}),
            chart_number={id(chart): index for index, chart in enumerate(drawn)},
            identity=id,
            policy=security_policy(scripts),
            style=Markup(template_file("style.css")),
            scripts=[Markup(script) for script in scripts],
        )
    )


def _left_out(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """The titles of sections without content, by their reason: ("Metrics, Attacks", "No labels ...")."""
    titles: dict[str, list[str]] = {}
    for section in sections:
        if section.empty:
            titles.setdefault(section.lead, []).append(section.title)
    return [(", ".join(own), reason) for reason, own in titles.items()]


@functools.cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script."""
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return script.replace("</script", "<\\/script")


def _json_for_script(value: Mapping[str, Any]) -> Markup:
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # Ids are untrusted: nothing in them may end the script element.
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
