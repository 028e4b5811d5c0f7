"""Errors of requests as JSON (RFC 9457): what was wrong, and what to do."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import JSONResponse

from spectra_jax.errors import RequestError
from spectra_jax.messages import printable

MEDIA_TYPE = "application/problem+json"


def problem_response(error: RequestError, request_id: str) -> JSONResponse:
    """The response that states an error.

    Args:
      error: of the request.
      request_id: of the request, as in the log.
    """
    content = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": printable(error.detail, keep="\n"),
        "request_id": request_id,
    }
    return JSONResponse(content, error.status, error.headers, MEDIA_TYPE)


def busy(detail: str, retry_after: int = 1) -> RequestError:
    """The problem of a request for which there is no capacity at present.

    Args:
      detail: what is exhausted.
      retry_after: seconds after which to try again.
    """
    return RequestError(429, f"{detail}; try again in {retry_after} s", {"Retry-After": str(retry_after)})


def unavailable(detail: str, retry_after: int = 5) -> RequestError:
    """The problem of a request that comes before the service is ready, or after it was told to stop.

    Args:
      detail: why.
      retry_after: seconds after which to try again.
    """
    return RequestError(503, f"{detail}; try again in {retry_after} s", {"Retry-After": str(retry_after)})
