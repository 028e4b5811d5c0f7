"""`spectra-jax serve`, before and after it answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

for _package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_package, reason="needs the extra `serve`")

from tests.conftest import GOLDEN, spectra  # noqa: E402


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


@pytest.mark.slow
def test_sigterm_ends_it_and_the_log_is_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spectra_jax", "serve", "--model", str(GOLDEN / "tiny"), "--port", "0"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        lines: list[str] = []
        while '"ready"' not in "".join(lines):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        url = json.loads(lines[0])["url"]
        with urllib.request.urlopen(f"{url}/readyz") as response:
            assert json.load(response)["status"] == "ready"
        process.send_signal(signal.SIGTERM)
        *rest, last = process.stderr.read().splitlines()
        assert process.wait() == 128 + signal.SIGTERM
    assert {"listening", "ready", "request", "stopping"} <= {json.loads(line)["event"] for line in [*lines, *rest]}
    assert last == "spectra-jax: ended by SIGTERM; requests in flight were finished"
