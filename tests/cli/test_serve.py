"""`spectra-jax serve`, before and after it answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pytest

for _package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_package, reason="needs the extra `serve`")

from tests.conftest import GOLDEN, spectra  # noqa: E402
from tests.serving.recordings import HANG_SECONDS, raw_request, wav  # noqa: E402


@pytest.mark.parametrize(
    ("words", "key", "message"),
    [
        (["--host", "0.0.0.0"], None, "no API key"),
        (["--no-api-key"], "key", "SPECTRA_JAX_API_KEY is set"),
        ([], " ", "empty"),
        *(([], key, "spaces or a line break around it") for key in ("key\r", "key\n", " key", "k\u00e9y", "a\tb")),
        (["--host", "203.0.113.1", "--no-api-key"], None, "--host 203.0.113.1"),
        (["--allow-url", "file:///"], None, "--allow-url"),
        (["--threshold", "low"], None, "threshold 'low'"),
        (["--max-seconds", "nan"], None, "max_seconds = nan"),
    ],
)
def test_it_refuses_before_the_network_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    key: str | None,
    message: str,
) -> None:
    monkeypatch.delenv("SPECTRA_JAX_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("SPECTRA_JAX_API_KEY", key)
    assert spectra(monkeypatch, "serve", "--model", "demo", "--port", 0, *words) == 2
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert spectra(monkeypatch, "serve", "--model", "demo", "--port", port) == 2
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


@pytest.mark.slow
def test_it_ends_where_the_network_cannot_be_loaded(tmp_path: Path) -> None:
    # A process of its own: an event loop of another test may be running in this one.
    command = [sys.executable, "-m", "spectra_jax", "serve", "--port", "0", "--model", str(tmp_path / "none")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"spectra-jax: {tmp_path / 'none'}: no such file or directory")


def lines_until(event: str, stream: IO[str]) -> list[str]:
    """The next lines of a log, to that of an event."""
    lines = [stream.readline()]
    while json.loads(lines[-1])["event"] != event:
        lines.append(stream.readline())
    return lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "uploads", "ending"),
    [
        ([signal.SIGTERM], 0, "ended by SIGTERM; requests in flight were finished"),
        ([signal.SIGTERM], 2, "ended by SIGTERM; requests in flight were cancelled: 2"),
        ([signal.SIGINT, signal.SIGINT], 1, "interrupted; requests in flight were cancelled: 1"),
    ],
    ids=["nothing in flight", "after --drain-seconds", "a second Ctrl-C"],
)
def test_a_signal_ends_it_and_the_log_is_json(
    tmp_path: Path, signals: list[signal.Signals], uploads: int, ending: str
) -> None:
    command = [sys.executable, "-m", "spectra_jax", "serve", "--model", str(GOLDEN / "tiny"), "--port", "0"]
    command += ["--drain-seconds", "1" if len(signals) == 1 else str(HANG_SECONDS)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process, ExitStack() as stack:
        assert process.stderr is not None
        lines = lines_until("ready", process.stderr)
        url = json.loads(lines[0])["url"]
        with urllib.request.urlopen(f"{url}/readyz") as response:
            assert json.load(response)["status"] == "ready"
        for _ in range(uploads):
            upload = stack.enter_context(socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)))
            # The server asks for the body when it works on the request.
            upload.sendall(raw_request(wav(), expect="100-continue")[:-3000])
            assert upload.recv(1000).startswith(b"HTTP/1.1 100")
        for number in signals:
            process.send_signal(number)
            lines += lines_until("stopping", process.stderr)
        *rest, last = process.stderr.read().splitlines()
        assert process.wait() == 128 + signals[0]
    events = [json.loads(line)["event"] for line in [*lines, *rest]]
    assert {"listening", "ready", "stopping"} <= set(events)
    assert events.count("request") == 1 + uploads
    assert last == f"spectra-jax: {ending}"
