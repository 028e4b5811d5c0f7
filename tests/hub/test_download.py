"""One file, with and without a cache, a network, and a server that behaves."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants as client

from spectra_jax import hub
from tests.hub.repository import READER, SHA256, refusal
from tests.hub_stand_in import HubStandIn


def test_a_cached_commit_needs_no_network(stand_in: HubStandIn) -> None:
    first = hub.fetch_model(f"org/model@{stand_in.commit('org/model', 'main')}")
    stand_in.requests.clear()
    assert hub.fetch_model(f"org/model@{first.revision}") == first
    assert stand_in.requests == []


def test_the_token_goes_to_the_hub_and_not_to_the_cdn(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)
    hub.fetch_model("org/model")
    sent = {(request.server, request.headers.get("authorization")) for request in stand_in.requests}
    assert sent == {("hub", f"Bearer {READER}"), ("cdn", None)}


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own download fails the test: without a connection it would retry for half a minute or longer."""

    def fail(*args: object, **options: object) -> None:
        raise AssertionError("the download was started without a connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)


@pytest.mark.usefixtures("no_retries")
def test_no_network_and_not_in_the_cache(cache: Path, no_network: Callable[[], str]) -> None:
    endpoint = no_network()
    assert refusal(hub.PUBLISHED) == (
        f"Cannot reach {endpoint} ([Errno {errno.ECONNREFUSED}] Connection refused), and the cache ({cache}) has no "
        f"model.safetensors of {hub.PUBLISHED} at revision {hub.PUBLISHED_REVISION}. Connect to the network and run "
        "the same command again, or give a local path as the model, or `--model demo`."
    )


@pytest.mark.usefixtures("no_retries")
def test_a_server_that_does_not_respond_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HF_HUB_ETAG_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "Cannot reach" in refusal("org/model")
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_login_page_instead_of_a_hub(stand_in: HubStandIn) -> None:
    stand_in.status = 200
    assert "the server there is not a Hub; is it a proxy's or a network's login page?" in refusal("org/model")


@pytest.mark.parametrize("trouble", ["down", "login page", "error"])
def test_without_the_hub_the_cache_is_used(stand_in: HubStandIn, no_network: Callable[[], str], trouble: str) -> None:
    fetched = hub.fetch_model("org/model")
    if trouble == "down":
        no_network()
    stand_in.status = 200 if trouble == "login page" else 503
    assert hub.fetch_model("org/model") == fetched


def test_offline_with_the_model_cached(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = hub.fetch_model("org/model")
    stand_in.requests.clear()
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    assert hub.fetch_model("org/model") == fetched
    assert stand_in.requests == []


def test_offline_and_not_in_the_cache(stand_in: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    assert refusal("org/model") == (
        f"The Hub client is offline (HF_HUB_OFFLINE is set), and the cache ({cache}) has no model.safetensors of "
        "org/model at revision main. Unset HF_HUB_OFFLINE to fetch it, or give a local path as the model, or "
        "`--model demo`."
    )
    assert stand_in.requests == []


def test_offline_without_the_configuration_in_the_cache(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights whose configuration was never fetched must not be taken for a model that has none."""
    fetched = hub.fetch_model("org/model")
    assert fetched.config is not None
    fetched.config.unlink()
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    assert "has no config.json of org/model" in refusal("org/model")


def test_a_download_that_hangs_times_out(
    stand_in: HubStandIn, no_sleep: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    stand_in.hang("model.safetensors")
    text = refusal("org/model")
    assert text.startswith("The download of model.safetensors of org/model broke off (") and "timed out)" in text


def test_a_download_that_breaks_off_once_is_resumed(
    stand_in: HubStandIn, no_sleep: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "DOWNLOAD_CHUNK_SIZE", 1024)
    stand_in.drop("model.safetensors", after=5000, times=1)
    assert hub.fetch_model("org/model").sha256 == SHA256
    ranges = [request.headers.get("range") for request in stand_in.requests if request.server == "cdn"]
    assert ranges == [None, "bytes=4096-"]
    assert len(no_sleep) == 1


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_download_that_breaks_off_each_time(
    stand_in: HubStandIn, cache: Path, no_sleep: list[float], reset: bool
) -> None:
    stand_in.drop("model.safetensors", after=5000, times=None, reset=reset)
    text = refusal("org/model")
    assert text.startswith("The download of model.safetensors of org/model broke off (")
    assert text.endswith("). Check the connection and run the same command again, or give a local path as the model, "
                         "or `--model demo`.")  # fmt: skip
    assert [path for path in cache.rglob("*") if "snapshots" in path.parts and path.is_file()] == []
    stand_in.heal()
    assert hub.fetch_model("org/model").sha256 == SHA256


def test_the_network_fails_before_the_download(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata arrive, then the client cannot reach the Hub any more."""

    def gone(*args: object, **kwargs: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("nothing here") from ConnectionError("Network is down")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", gone)
    assert f"Cannot reach {stand_in.url} (Network is down)" in refusal("org/model")
