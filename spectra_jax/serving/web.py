"""The pages at / and /docs. They load nothing from elsewhere, and run no script but their own."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from spectra_jax import __version__


@cache
def index_page(*, needs_key: bool) -> tuple[str, str]:
    """The page on which a recording is dropped, as HTML, and its content security policy.

    The page about the recording is shown in a frame that inherits this policy, so it permits that page's scripts.

    Args:
      needs_key: whether it asks for the API key.
    """
    script = _file("index.js")
    html = _file("index.html").replace("{{ style }}", _file("style.css")).replace("{{ script }}", script)
    html = html.replace("{{ version }}", escape(__version__)).replace("{{ key_hidden }}", "" if needs_key else "hidden")
    scripts = [_hash(script), *_inspection_scripts()]
    policy = (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return html, policy


@cache
def inspection_policy() -> str:
    """The content security policy of the page about a recording."""
    return (
        f"default-src 'none'; script-src {' '.join(_inspection_scripts())}; style-src 'unsafe-inline'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )


def reference_page(schema: dict[str, Any]) -> tuple[str, str]:
    """The routes and what they take and return, as HTML, and its content security policy.

    Args:
      schema: as FastAPI describes the application.
    """
    routes = [
        _describe(method, path, route) for path, routes in schema["paths"].items() for method, route in routes.items()
    ]
    html = _file("docs.html").replace("{{ style }}", _file("style.css")).replace("{{ version }}", escape(__version__))
    html = html.replace("{{ description }}", escape(schema["info"]["description"]))
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html.replace("{{ routes }}", "\n".join(routes)), policy


def _describe(method: str, path: str, route: dict[str, Any]) -> str:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2>", f"<p>{escape(route['summary'])}.</p>"]
    bodies = route.get("requestBody", {}).get("content", {})
    for kind, body in bodies.items():
        parts.append(f"<h3>Body: <code>{escape(kind)}</code></h3>")
        fields = body["schema"]["properties"].items()
        parts.append(_table("field", [(name, field["description"]) for name, field in fields]))
    responses = [(status, response["description"]) for status, response in route["responses"].items()]
    parts += ["<h3>Responses</h3>", _table("status", responses)]
    return f"<section>{''.join(parts)}</section>"


def _table(first: str, rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th scope='row'><code>{escape(a)}</code></th><td>{escape(b)}</td></tr>" for a, b in rows)
    head = f"<thead><tr><th scope='col'>{first}</th><th scope='col'>meaning</th></tr></thead>"
    return f"<table>{head}<tbody>{cells}</tbody></table>"


@cache
def _inspection_scripts() -> list[str]:
    """Hashes of the scripts of the page about a recording; they are package data, and need no extra."""
    folder = files("spectra_jax.reporting").joinpath("template")
    return [_hash(folder.joinpath(name).read_text(encoding="utf-8")) for name in ("shared.js", "inspection.js")]


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _file(name: str) -> str:
    return files("spectra_jax.serving").joinpath("pages", name).read_text(encoding="utf-8")
