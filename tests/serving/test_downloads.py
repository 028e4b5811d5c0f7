"""Which URLs are read, and from which addresses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

for _package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_package, reason="needs the extra `serve`")

from spectra_jax.errors import InputError, RequestError  # noqa: E402
from spectra_jax.serving.downloads import UrlPrefix, download  # noqa: E402
from tests.engine_stand_in import stand_in_scorer  # noqa: E402
from tests.inference.clips import levels  # noqa: E402
from tests.serving.recordings import HANG_SECONDS, wav  # noqa: E402
from tests.serving.running import running  # noqa: E402


class Handler(BaseHTTPRequestHandler):
    """A web server with a recording, and with what a service must not follow or believe."""

    hang: threading.Event

    def do_GET(self) -> None:
        content, headers, status = wav(0.5), {}, 200
        match self.path.partition("?")[0]:
            case "/clips/redirect.wav":
                content, headers, status = b"", {"Location": f"http://127.0.0.1:{self.server.server_port}/secret"}, 302  # type: ignore[attr-defined]
            case "/clips/missing.wav":
                content, status = b"nothing", 404
            case "/clips/cut.wav":
                headers = {"Content-Length": str(len(content) + 100)}
            case "/clips/slow.wav":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content[:100])
                self.wfile.flush()
                self.hang.wait(HANG_SECONDS)
                return
            case "/clips/slow_headers.wav":
                self.drip(b"HTTP/1.0 200 OK\r\n")
                return
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def drip(self, start: bytes) -> None:
        """Send a byte every 50 ms, so that no wait for one is long."""
        with suppress(OSError):
            self.wfile.write(start)
            while not self.hang.wait(0.05):
                self.wfile.write(b"a")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(handler: type[Handler]) -> Iterator[int]:
    """The port of a server on the loopback interface."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.hang = threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        handler.hang.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a web server."""
    with answering(Handler) as port:
        yield port


class SlowHandshake(Handler):
    """A server whose answer to a TLS handshake never ends."""

    def handle(self) -> None:
        self.drip(b"\x16\x03\x03\x40\x00")


def refusal(url: str, *prefixes: str, max_bytes: int = 1_000_000, max_seconds: float = 10.0) -> tuple[int, str]:
    """The status and reason with which a URL is refused."""
    with pytest.raises(RequestError) as caught:
        download(url, [UrlPrefix.of(text) for text in prefixes], max_bytes=max_bytes, max_seconds=max_seconds)
    return caught.value.status, caught.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "s3://bucket/a.wav",
        "ftp://example.org/clips/a.wav",
        "http://example.org/clips/a.wav",
        "https://example.org/other/a.wav",
        "https://example.org/clips",
        "https://example.org:8443/clips/a.wav",
        "https://example.org.evil.example/clips/a.wav",
        "https://evil.example/https://example.org/clips/a.wav",
        "https://example.org@evil.example/clips/a.wav",
        "https://user:password@example.org/clips/a.wav",
        "https://example.org/clips/../other/a.wav",
        "https://example.org/clips/%2e%2e/other/a.wav",
        "https://example.org/clips/%252e%252e/other/a.wav",
        "https://example.org/clips/..%2fother/a.wav",
        "//example.org/clips/a.wav",
        "example.org/clips/a.wav",
        "",
    ],
)
def test_only_urls_below_a_prefix_are_read(url: str) -> None:
    assert refusal(url, "https://example.org/clips")[0] == 403


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/clips/a b.wav",
        "https://example.org/clips\\..\\a.wav",
        "https://example.org/clips/a\r\nHost: evil.example",
        "https://[::1/clips/a.wav",
        "https://example.org:port/clips/a.wav",
        "https://example.org/clips/" + "a" * 5000,
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    assert refusal(url, "https://example.org/clips")[0] == 400


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_a_name_that_leads_to_this_network_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443)),
        (family, socket.SOCK_STREAM, 6, "", (address, 443)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    status, detail = refusal("https://example.org/a.wav", "https://example.org/")
    assert (status, address in detail) == (403, True)


def test_a_recording_at_a_permitted_url_is_scored(port: int) -> None:
    with running(stand_in_scorer(levels), allowed_urls=(f"http://127.0.0.1:{port}/clips",)) as service:

        def ask(url: str) -> Any:
            body = b'{"url": "%s", "windows": "first", "threshold": 1}' % url.encode()
            return service.request("POST", "/v1/detect", body, {"Content-Type": "application/json"})

        url = f"http://127.0.0.1:{port}/clips/a.wav?token=1"
        answer = ask(url).json
        assert (answer["name"], answer["label"], answer["hop"]) == (url, "spoof", None)
        assert answer["score"] == pytest.approx(0.5)
        assert ask(f"http://127.0.0.1:{port}/secret").status == 403
        assert service.service.buffered.total == 0


@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [
        ("redirect.wav", 400, "redirects to http://127.0.0.1"),
        ("missing.wav", 502, "status 404"),
        ("cut.wav", 502, "100 more bytes than it sent"),
        ("slow.wav", 502, "not complete after 0.5 s"),
        ("slow_headers.wav", 502, "not complete after 0.5 s"),
    ],
)
def test_a_url_that_fails_is_explained(port: int, name: str, status: int, detail: str) -> None:
    prefix = f"http://127.0.0.1:{port}/clips/"
    found, reason = refusal(prefix + name, prefix, max_seconds=0.5)
    assert (found, detail in reason) == (status, True), reason


def test_a_slow_handshake_is_explained() -> None:
    with answering(SlowHandshake) as port:
        url = f"https://127.0.0.1:{port}/"
        assert "not complete after 0.5 s" in refusal(url, url, max_seconds=0.5)[1]


def test_a_silent_server_is_not_waited_for_until_the_deadline(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra_jax.serving.downloads._WAIT_SECONDS", 0.5)
    prefix = f"http://127.0.0.1:{port}/clips/"
    assert "sent no data for 0.5 s" in refusal(f"{prefix}slow.wav", prefix, max_seconds=HANG_SECONDS)[1]


def test_no_more_is_read_than_permitted(port: int) -> None:
    prefix = f"http://127.0.0.1:{port}/clips/"
    assert refusal(f"{prefix}a.wav", prefix, max_bytes=1000)[0] == 413


@pytest.mark.parametrize(
    "prefix", ["", "example.org", "file:///data/", "https:///clips", "https://u@example.org/", "https://example.org/?a"]
)
def test_a_prefix_that_permits_too_much_is_refused(prefix: str) -> None:
    with pytest.raises(InputError, match="--allow-url"):
        UrlPrefix.of(prefix)
