"""The address of the Hub, and responses that no Hub would send."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from spectra_jax import hub
from spectra_jax.errors import HubError
from tests.hub.repository import COMMIT, SHA256, refusal
from tests.hub_stand_in import HubStandIn


@pytest.mark.parametrize(
    "endpoint",
    ["huggingface.example", "ftp://x", "http://", "http://[::1", "http://x:port", "https://x y", "https://x?a"],
)
def test_an_invalid_endpoint_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    sentence = (
        f"HF_ENDPOINT is {endpoint.rstrip('/')!r}, which is not the address of a Hub. Set it to one such as "
        "https://huggingface.co, or unset it, or give a local path as the model, or `--model demo`."
    )
    assert refusal("org/model") == sentence
    with pytest.raises(HubError) as raised:
        hub.list_dataset("org/trials", "main")
    assert str(raised.value) == sentence


def has_only(cache: Path, *names: str) -> bool:
    """Whether nothing was written beside or into the cache, but for files in it of these names."""
    beside = [path for path in cache.parent.iterdir() if path != cache]
    return not beside and {path.name for path in cache.rglob("*") if path.is_file()} <= {"CACHEDIR.TAG", *names}


@pytest.mark.parametrize("when", ["always", "the second time"])
@pytest.mark.parametrize(
    ("header", "value", "expected"),
    [
        ("X-Linked-Etag", '"../../../../outside"', "the ETag '\"../../../../outside\"', not a sha1 or sha256 in hex"),
        ("X-Linked-Etag", "/tmp/outside", "the ETag '/tmp/outside', not a sha1"),
        ("X-Linked-Etag", 'W/"' + "a" * 63 + '/"', "not a sha1"),
        ("X-Repo-Commit", "../../../outside", "the commit '../../../outside', not 40 hexadecimal digits"),
        ("X-Repo-Commit", "main", "the commit 'main', not 40 hexadecimal digits"),
        ("X-Xet-Hash", "../../outside", "the xet hash '../../outside', not 64 hexadecimal digits"),
    ],
)
def test_headers_that_would_lead_out_of_the_cache(
    stand_in: HubStandIn, cache: Path, header: str, value: str, expected: str, when: str
) -> None:
    """The client requests the headers again before it downloads, and the second response may differ."""
    responses = 0

    def forge(name: str, headers: dict[str, str]) -> None:
        nonlocal responses
        responses += 1
        if when == "always" or responses > 1:
            headers[header] = value

    stand_in.alter = forge
    text = refusal("org/model")
    assert text.startswith(f"{stand_in.url} answered the request for org/model with the ") and expected in text
    assert text.endswith("A Hub does not answer so, and nothing was written. Check HF_ENDPOINT.")
    assert stand_in.requested("GET") == []
    assert has_only(cache)
    stand_in.heal()
    assert hub.fetch_model("org/model").sha256 == SHA256


def test_a_small_file_whose_etag_would_be_a_path(stand_in: HubStandIn, cache: Path) -> None:
    def forge(name: str, headers: dict[str, str]) -> None:
        if name == "config.json":
            headers["ETag"] = '"../../../../outside"'

    stand_in.alter = forge
    assert "the ETag '\"../../../../outside\"'" in refusal("org/model")
    assert not (cache.parent / "outside").exists()


def test_a_missing_file_whose_commit_would_be_a_path(stand_in: HubStandIn, cache: Path) -> None:
    """The cache also notes that a commit does not have a file, under the commit's name."""
    stand_in.alter = lambda name, headers: headers.update({"X-Repo-Commit": "../../../outside"})
    assert "not 40 hexadecimal digits" in refusal("org/pickled")
    assert has_only(cache)


def test_a_response_of_another_commit_than_requested(stand_in: HubStandIn) -> None:
    other = "f" * 40
    stand_in.alter = lambda name, headers: headers.update({"X-Repo-Commit": other})
    assert f"with a file of commit {other}, where {COMMIT} was requested" in refusal(f"org/model@{COMMIT}")


def test_responses_are_checked_in_new_sessions_as_well(stand_in: HubStandIn, cache: Path) -> None:
    """The client makes another session after a failed connection."""
    hub.fetch_model("org/bare")
    huggingface_hub.close_session()
    stand_in.alter = lambda name, headers: headers.update({"X-Linked-Etag": "../../../../outside"})
    assert "not a sha1" in refusal("org/model")


def test_other_uses_of_the_client_are_not_checked(stand_in: HubStandIn, tmp_path: Path) -> None:
    """Programs that use the Hub client themselves see no difference."""
    hub.fetch_model("org/model")
    stand_in.alter = lambda name, headers: headers.update({"X-Linked-Etag": '"of-another-kind"'})
    url = f"{stand_in.url}/org/model/resolve/main/model.safetensors"
    assert huggingface_hub.get_hf_file_metadata(url).etag == "of-another-kind"


@pytest.mark.parametrize(
    ("header", "value"), [("Retry-After", "301"), ("RateLimit", '"resolvers";r=0;t=301'), ("Retry-After", "9" * 30)]
)
def test_a_wait_that_is_too_long_is_an_error(
    stand_in: HubStandIn, no_sleep: list[float], header: str, value: str
) -> None:
    stand_in.deny("model.safetensors", 429, {header: value})
    text = refusal("org/model")
    seconds = 301 if "301" in value else int("9" * 18)
    assert text.startswith(f"{stand_in.url} does not serve org/model for another {seconds:,} seconds. Run the same")
    assert no_sleep == []
