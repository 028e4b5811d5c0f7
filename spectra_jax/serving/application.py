"""The routes of the service, and what holds for all of them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spectra_jax import __version__
from spectra_jax.data.trial import Trial
from spectra_jax.errors import RequestError, SpectraError
from spectra_jax.inference.detection import Detection
from spectra_jax.serving import web
from spectra_jax.serving.authentication import OPEN_PATHS, check_key, check_origin
from spectra_jax.serving.problems import MEDIA_TYPE, problem_response
from spectra_jax.serving.service import PARAMETERS, Service
from spectra_jax.serving.telemetry import log
from spectra_jax.serving.uploads import Body, read_body

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Of a refused request, so that a client that is still sending reads the response instead of a closed connection.
_DISCARDED_BYTES, _DISCARD_SECONDS = 32 << 20, 1.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_DESCRIPTION = (
    "Scores speech: a higher score is more bona fide. Nothing is labelled without a threshold, and a score is no "
    "verdict: see the detection's `warnings`."
)
_PROBLEMS = {
    "400": "The recording cannot be decoded or scored, or the request cannot be read.",
    "401": "No API key, or a wrong one.",
    "403": "A URL that is not permitted, or a request that a page of another site sends.",
    "408": "The body took too long.",
    "413": "The recording has too many bytes.",
    "415": "The body is neither a form nor JSON, or is compressed.",
    "421": "The host is not one of the service's own names.",
    "422": "The recording is too long, or a parameter has no such value.",
    "429": "The queue or the memory for recordings is full; Retry-After states when to try again.",
    "500": "An error of the service; its log has the cause.",
    "501": "The extra `report` is not installed, which draws pages.",
    "502": "The URL cannot be read.",
    "503": "The network is being loaded, or the service is stopping.",
}


class _HungUpError(SpectraError):
    """The client no longer waits."""


def create_app(service: Service, hosts: frozenset[str] | None = None) -> FastAPI:
    """The application, which starts and stops the service.

    Args:
      service: not started.
      hosts: the names under which it may be addressed; None for any. See `authentication.check_origin`.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="spectra-jax",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # Those of FastAPI load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # A redirection states a URL, which follows from the header Host and cannot have every query.
        redirect_slashes=False,
    )
    _add_pages(app, service)
    _add_detection(app, service)

    @app.get("/healthz", summary="Whether the process answers", responses=_problems("421"))
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get(
        "/readyz",
        summary="Whether recordings are scored: 200, or 503 while the network is loaded or ending",
        responses=_problems("421") | {"503": {"description": _PROBLEMS["503"], "content": {"application/json": {}}}},
    )
    async def readyz() -> JSONResponse:
        ready = service.state == "ready"
        content = {"status": service.state, "model": service.model}
        return JSONResponse(content, 200 if ready else 503, {} if ready else {"Retry-After": "5"})

    @app.get("/metrics", summary="Metrics for Prometheus", responses=_problems("401", "421"))
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.scope['path']}: {error.detail}; see /docs for what there is"
        raise RequestError(error.status_code, detail, error.headers)

    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(_Requests, service=service, hosts=hosts, paths=paths)
    return app


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        html, policy = web.index_page(needs_key=service.settings.api_key is not None)
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        html, policy = web.reference_page(app.openapi())
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def _add_detection(app: FastAPI, service: Service) -> None:
    @app.post("/v1/detect", summary="Score a recording", openapi_extra=_openapi("application/json"))
    async def detect(request: Request) -> Response:
        async with _scored(request, service) as (detection, _):
            content = detection.to_dict() | {"system": service.system}
            return Response(json.dumps(content, allow_nan=False), media_type="application/json")

    @app.post("/v1/page", summary="Score a recording, and draw its page", openapi_extra=_openapi("text/html"))
    async def page(request: Request) -> Response:
        async with _scored(request, service) as (detection, trial):
            html = await _unless_hung_up(request, service.render(detection, trial))
            return HTMLResponse(
                html.encode("utf-8", "backslashreplace"),
                headers={"Content-Security-Policy": f"{web.inspection_policy()}; sandbox allow-scripts"},
            )


@asynccontextmanager
async def _scored(request: Request, service: Service) -> AsyncIterator[tuple[Detection, Trial]]:
    """The detection of a request's recording, and the recording, while they are in memory."""
    service.check_ready()
    body = Body()
    try:
        await read_body(request, service.settings, service.buffered, body)
        parameters = dict(request.query_params) | body.fields
        settings = service.detection_settings(parameters)
        trial = await _unless_hung_up(request, service.trial_of(body))
        yield await _unless_hung_up(request, service.detect(trial, settings)), trial
    finally:
        service.buffered.remove(body.num_bytes)


async def _unless_hung_up(request: Request, work: Any) -> Any:
    """Wait for work; cancel it where the client hangs up."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _HungUpError
        return working.result()
    finally:
        for task in (working, listening):
            task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await working


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Requests:
    """What holds for every request: its id, key and origin, errors as JSON, headers, metrics and a line in the log."""

    def __init__(self, app: ASGIApp, service: Service, hosts: frozenset[str] | None, paths: frozenset[str]):
        self._app, self._service, self._hosts, self._paths = app, service, hosts, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        request = Request(scope, receive)
        stated = request.headers.get("x-request-id", "")
        request_id = stated if _REQUEST_ID.fullmatch(stated) else uuid.uuid4().hex
        status: int | None = None
        is_read = False

        async def receive_and_note() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body")
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                set_already = {name.lower() for name, _ in message["headers"]}
                added = _HEADERS | {"X-Request-ID": request_id}
                message["headers"] += [
                    (name.lower().encode(), value.encode())
                    for name, value in added.items()
                    if name.lower().encode() not in set_already
                ]
            await send(message)

        problem: RequestError | None = None
        try:
            check_origin(request.method, request.headers, self._hosts)
            # As for routing; `request.url` follows from the header Host, and cannot have every query.
            if scope["path"] not in OPEN_PATHS:
                check_key(request.headers, self._service.settings.api_key)
            await self._app(scope, receive_and_note, send_with_headers)
        except (_HungUpError, ClientDisconnect):
            self._service.metrics.dropped.inc()
        except asyncio.CancelledError:
            # By the server, where it ends before the request does.
            self._service.num_cancelled += 1
            self._record(request, request_id, status, time.perf_counter() - start)
            raise
        except RequestError as error:
            problem = error
        except Exception as error:
            problem = RequestError(500, "an error of the service; its log has the cause")
            problem.__cause__ = error
        if problem is not None and status is None:
            if problem.status >= 500 and problem.__cause__ is not None:
                log("error", logging.ERROR, problem.__cause__, request_id=request_id)
            # One that sends slowly was waited for already.
            if not is_read and problem.status != 408:
                await _discard(receive)
            await problem_response(problem, request_id)(scope, receive, send_with_headers)
        self._record(request, request_id, status, time.perf_counter() - start)

    def _record(self, request: Request, request_id: str, status: int | None, seconds: float) -> None:
        path = request.scope["path"] if request.scope["path"] in self._paths else "other"
        if status is not None:
            self._service.metrics.requests.labels(path, status).inc()
            self._service.metrics.seconds.labels(path).observe(seconds)
        log(
            "request",
            request_id=request_id,
            method=request.method,
            path=path,
            status=status,
            seconds=round(seconds, 6),
            dropped=status is None,
        )


async def _discard(receive: Receive) -> None:
    """Read a part of what a client still sends."""
    num_bytes = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while num_bytes < _DISCARDED_BYTES:
                message = await receive()
                num_bytes += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return


def _problems(*statuses: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that are errors."""
    return {status: {"description": _PROBLEMS[status], "content": {MEDIA_TYPE: {}}} for status in statuses}


def _openapi(media_type: str) -> dict[str, Any]:
    """What FastAPI cannot derive of a route that reads its body itself."""
    text = {"type": "string"}
    parameters = {name: text | {"description": meaning} for name, meaning in PARAMETERS.items()}
    file = {"type": "string", "format": "binary", "description": "The recording, in any format that `score` takes."}
    url = text | {"description": "Of the recording, where the service permits its prefix."}
    forms = {
        "multipart/form-data": {"file": file, **parameters},
        "application/json": {"url": url, **parameters},
    }
    success = {
        "application/json": "The detection, and the system that scored.",
        "text/html": "The page, as `spectra-jax inspect --html` writes it.",
    }
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": text, "description": meaning}
            for name, meaning in PARAMETERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                kind: {"schema": {"type": "object", "properties": form, "required": [next(iter(form))]}}
                for kind, form in forms.items()
            },
        },
        "responses": {
            "200": {"description": success[media_type], "content": {media_type: {}}},
            **_problems(*(status for status in _PROBLEMS if status != "501" or media_type == "text/html")),
        },
    }
