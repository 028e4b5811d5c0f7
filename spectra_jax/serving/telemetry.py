"""Metrics for Prometheus, and logs as JSON lines. Neither has recordings, names of files, queries or keys."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LOGGER = logging.getLogger("spectra_jax.serving")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of a service.

    Args:
      queue_depth: how many recordings are decoded, scored, drawn or waiting.
      buffered_bytes: how many bytes of recordings are in memory.

    Attributes:
      requests: by path and status.
      seconds: from a request's first line to its response, by path.
      batch_windows: windows of each batch.
      audio_seconds: length of the recordings that were scored.
      dropped: requests whose client hung up.
    """

    def __init__(self, queue_depth: Callable[[], int], buffered_bytes: Callable[[], int]):
        self._registry = CollectorRegistry()
        common: dict[str, Any] = {"namespace": "spectra_jax", "registry": self._registry}
        self.requests = Counter("requests", "Responses, by path and status.", ["path", "status"], **common)
        self.seconds = Histogram(
            "request_seconds", "Seconds until the response, by path.", ["path"], buckets=_SECONDS, **common
        )
        self.batch_windows = Histogram(
            "batch_windows", "Windows of each batch of the network.", buckets=_WINDOWS, **common
        )
        self.audio_seconds = Counter("audio_seconds", "Seconds of the recordings that were scored.", **common)
        self.dropped = Counter("dropped_requests", "Requests whose client hung up.", **common)
        depth = Gauge("queue_depth", "Recordings that are decoded, scored, drawn or waiting.", **common)
        depth.set_function(queue_depth)
        buffered = Gauge("buffered_bytes", "Bytes of recordings in memory.", **common)
        buffered.set_function(buffered_bytes)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self._registry)


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: its time in UTC, level and event, and what `extra={"fields": ...}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{moment}.{int(record.msecs):03}Z", "level": record.levelname.lower()}
        line |= {"event": record.getMessage(), **getattr(record, "fields", {})}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to(stream: IO[str] = sys.stderr) -> None:
    """Send the service's and the server's logs to a stream, as JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    for logger in (LOGGER, logging.getLogger("uvicorn")):
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def log(event: str, level: int = logging.INFO, error: BaseException | None = None, **fields: Any) -> None:
    """Log an event.

    Args:
      event: what happened, in a few words.
      level: of `logging`.
      error: whose traceback is added.
      fields: plain values.
    """
    LOGGER.log(level, event, extra={"fields": fields}, exc_info=error)
