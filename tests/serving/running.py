"""Services in this process that answer on free ports, and their clients."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from spectra_jax.inference.scorer import Scorer
from spectra_jax.serving.run import build_server, listen
from spectra_jax.serving.service import Service
from spectra_jax.serving.settings import ServiceSettings
from tests.serving.recordings import HANG_SECONDS, form
from tests.waiting import wait_until


@dataclass
class Answer:
    """A response. The names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A service that answers on a port of the loopback interface.

    Attributes:
      service: see `Service`.
      port: a free one.
      stop: tells it to stop, as a signal does.
      thread: of the server.
    """

    service: Service
    port: int
    stop: Callable[[], None]
    thread: threading.Thread

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            return answer_of(connection)
        finally:
            connection.close()

    def detect(
        self, content: bytes, path: str = "/v1/detect", *, headers: dict[str, str] | None = None, **fields: str
    ) -> Answer:
        body, own = form(content, fields)
        return self.request("POST", path, body, own | (headers or {}))

    def send(self, data: bytes) -> socket.socket:
        """A connection over which bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=HANG_SECONDS)
        connection.sendall(data)
        return connection

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.request("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def answer_of(connection: HTTPConnection) -> Answer:
    """The response to a connection's request."""
    response = connection.getresponse()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextmanager
def running(scorer: Scorer, *, load: Callable[[], Scorer] | None = None, **settings: Any) -> Iterator[Running]:
    """A service of a scorer until the block ends. With `load` it is not waited for until it is ready."""
    service = Service(ServiceSettings(**settings), load or (lambda: scorer), "tiny")
    server = build_server(service, "127.0.0.1")
    listening = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()

    def stop() -> None:
        server.handle_exit(0, None)

    try:
        until(lambda: server.started and (load is not None or service.state in ("ready", "failed")))
        assert service.failure is None
        yield Running(service, listening.getsockname()[1], stop, thread)
    finally:
        stop()
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()
        listening.close()


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    wait_until(holds, "such condition", HANG_SECONDS)
