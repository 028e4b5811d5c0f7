"""An empty cache, a Hub on the loopback, a network that is down."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from spectra_jax import hub
from tests.hub.repository import COMMIT, MODEL, NEWER, READER, WEIGHTS
from tests.hub_stand_in import HubStandIn


@pytest.fixture(autouse=True)
def cache(hub_cache: Path) -> Path:
    return hub_cache


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    repos = {
        "org/model": {"main": dict(MODEL), COMMIT: {"model.safetensors": NEWER}},
        "org/bare": {"main": {"model.safetensors": WEIGHTS}},
        "org/pickled": {"main": {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04"}},
        hub.PUBLISHED: {hub.PUBLISHED_REVISION: dict(MODEL), "main": dict(MODEL)},
    }
    with HubStandIn(repos) as server:
        server.tokens.add(READER)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The client's waits between retries, in seconds: recorded instead of slept."""
    slept: list[float] = []
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=slept.append))
    return slept


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """A function that points the client at a port that refuses connections, and returns the address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, so that nobody else takes it, and not listening

        def disconnect() -> str:
            endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
            monkeypatch.setenv("HF_ENDPOINT", endpoint)
            return endpoint

        yield disconnect
