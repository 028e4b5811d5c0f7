"""Who may send requests: those with the API key, and no pages of other sites."""

from __future__ import annotations

import hmac
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers

from spectra_jax.errors import RequestError
from spectra_jax.serving.settings import API_KEY_VARIABLE

OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
"""What needs no key: nothing there depends on a recording."""


def check_key(headers: Headers, key: str | None) -> None:
    """Check the API key of a request, in a time that does not depend on how much of it is right.

    Args:
      headers: `Authorization: Bearer KEY` or `X-API-Key: KEY`.
      key: the right one; None where none is needed.

    Raises:
      RequestError: there is none, or another.
    """
    if key is None:
        return
    scheme, _, stated = headers.get("authorization", "").partition(" ")
    given = stated.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    if not hmac.compare_digest(given.encode(), key.encode()):
        detail = "the API key is wrong" if given else "this service needs its API key"
        raise RequestError(
            401,
            f"{detail}: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`; the service has it from the "
            f"environment variable {API_KEY_VARIABLE}",
            {"WWW-Authenticate": "Bearer"},
        )


def check_origin(method: str, headers: Headers, hosts: frozenset[str] | None) -> None:
    """Check that a request is not sent by a page of another site in somebody's browser.

    Args:
      method: of the request.
      headers: of the request.
      hosts: the names under which a service on the loopback interface may be addressed: another one is that of a site
        whose name leads here; None for any.

    Raises:
      RequestError: it is.
    """
    stated = headers.get("host", "")
    host = _split(f"//{stated}").hostname or ""
    if hosts is not None and host not in hosts:
        raise RequestError(421, f"Host {stated!r}: this service is reached as {', '.join(sorted(hosts))}")
    origin = headers.get("origin")
    if method == "POST" and origin is not None and _split(origin).netloc != stated:
        raise RequestError(403, f"sent by a page of {origin}: only the service's own page may, from a browser")


def _split(url: str) -> SplitResult:
    """A URL's parts; those of an empty one where it is not valid."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
