"""The page as HTML: nothing is fetched, untrusted text stays text, and each chart has a sentence and a table."""

from __future__ import annotations

import json
import re

import pytest

from tests.reporting.conftest import HOSTILE, Page

pytest.importorskip("vl_convert", reason="needs the extra `report`")
pytest.importorskip("jinja2", reason="needs the extra `report`")


def test_untrusted_text_stays_text(html: str) -> None:
    parsed = Page(html)
    assert [attributes.get("type") for tag, attributes in parsed.elements if tag == "script"] == [
        "application/json",
        None,
        None,
        None,
    ]
    assert any(row[0] == HOSTILE for row in parsed.rows()), "the most confident error is listed, by its own id"
    assert "alert(1)</script>" not in html
    assert not [tag for tag, _ in parsed.elements if tag == "b"], "nor is an attack's name markup"
    specs = json.loads(parsed.scripts[0])
    assert HOSTILE in json.dumps(specs), "the charts have the id too"


def test_fetches_nothing(html: str) -> None:
    policy = next(a["content"] for tag, a in Page(html).elements if tag == "meta" and "http-equiv" in a)
    assert policy and policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
    addresses = [a[name] for _, a in Page(html).elements for name in ("src", "href") if name in a]
    assert addresses and all(re.match(r"#|data:", address or "") for address in addresses)


def test_charts_have_a_sentence_and_a_table_each(html: str) -> None:
    parsed = Page(html)
    plots = [attributes for tag, attributes in parsed.elements if attributes.get("class") == "plot"]
    assert len(plots) == len(json.loads(parsed.scripts[0])) >= 9
    assert all(plot["role"] == "img" and len(plot["aria-label"] or "") > 40 for plot in plots)
    assert sum(tag == "details" for tag, _ in parsed.elements) == len(plots)
