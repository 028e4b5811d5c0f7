"""Errors of requests as JSON (RFC 9457): what was wrong, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class RequestError(Exception):
    """A request that is refused or failed.

    Args:
      status: of the response.
      detail: what was wrong, and what to do.
      headers: of the response, besides its type.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def response(self, request_id: str) -> JSONResponse:
        """The response that states the problem.

        Args:
          request_id: of the request, as in the log.
        """
        content = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        return JSONResponse(content, self.status, self.headers, MEDIA_TYPE)


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
