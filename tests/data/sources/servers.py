"""Web servers that misbehave."""

from __future__ import annotations

import io
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler
from typing import BinaryIO


class Web(SimpleHTTPRequestHandler):
    """Serves a folder, refuses /secret and sends a clip as /download."""

    def log_message(self, *_: object) -> None:
        pass

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        if self.path.startswith(("/secret", "/clips/secret")):
            self.send_error(403)
            return None
        if self.path.startswith("/download?"):
            self.path = "/clips/a.flac"
        return super().send_head()


class Endless(Web):
    """Sends an endless response, for /silent without a byte, and for /drip with a byte now and then."""

    protocol_version = "HTTP/1.0"

    def do_HEAD(self) -> None:
        self.send_response(405)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while not self.server.stopped.is_set():  # type: ignore[attr-defined]
                if "silent" not in self.path:
                    self.wfile.write(b"x" if "drip" in self.path else b"x" * 65536)
                if "silent" in self.path or "drip" in self.path:
                    self.server.stopped.wait(0.02)  # type: ignore[attr-defined]
