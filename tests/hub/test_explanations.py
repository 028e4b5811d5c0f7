"""Each refusal of the Hub and each failed download: one line on what happened and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants as client

from spectra_jax import hub
from spectra_jax.errors import HubError
from tests.hub.repository import READER, SHA256, refusal
from tests.hub_stand_in import HubStandIn


def test_a_token_that_cannot_be_read(stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    token = tmp_path / "file" / "token"
    monkeypatch.setattr(client, "HF_TOKEN_PATH", str(token))
    assert refusal("org/model") == (
        f"Cannot read {token}: Not a directory. Fix that, or set HF_HOME to a folder that can be read and written."
    )


@pytest.mark.parametrize("token", [None, READER], ids=["no token", "token"])
@pytest.mark.parametrize("private", [False, True], ids=["missing", "private"])
def test_a_missing_or_private_repository(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch, token: str | None, private: bool
) -> None:
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    name = "org/model" if private else "org/nothing"
    if private:
        stand_in.private[name] = {"hf_owner"}
    assert refusal(name) == (
        f"{stand_in.url} shows no repository {name}: it does not exist, or it is private. Check the spelling; for a "
        "private repository, set HF_TOKEN to a token that may read it."
    )


def test_a_private_repository_with_its_token(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.private["org/model"] = {READER}
    monkeypatch.setenv("HF_TOKEN", READER)
    assert hub.fetch_model("org/model").sha256 == SHA256


@pytest.mark.parametrize("token", [None, READER], ids=["no token", "token"])
def test_a_gated_repository(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    stand_in.gated["org/model"] = {"hf_granted"}
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    assert refusal("org/model") == (
        f"org/model is gated: its owner grants access to one account at a time. Ask for access at "
        f"{stand_in.url}/org/model, then set HF_TOKEN to a token of that account."
    )


def test_a_missing_revision(stand_in: HubStandIn) -> None:
    assert refusal("org/model@v9") == (
        "org/model has no revision v9. Check the branch, tag or commit after the @ in org/model@v9, or leave out the @ "
        "and everything after it."
    )


def test_an_unknown_token(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_revoked")
    text = refusal("org/model")
    assert text == (
        f"{stand_in.url} does not accept the access token that was sent for org/model. Set HF_TOKEN to a valid token, "
        "or unset it (and `hf auth logout`) to read public repositories without one."
    )
    assert "hf_revoked" not in text


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, "denies access to org/model. Set HF_TOKEN to a token that may read it, or"),
        (429, "had too many requests from this address and does not serve org/model for now. Wait some minutes"),
        (503, "answered the request for org/model with an error, HTTP status 503. Run the same command again later"),
    ],
)
def test_other_refusals(stand_in: HubStandIn, status: int, expected: str) -> None:
    stand_in.status = status
    assert expected in refusal("org/model")
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "The disk is full: model.safetensors of org/model (0.00 GB) does not fit into the cache ({cache}). Free "
            "some space, or set HF_HOME to a folder on a larger disk, and run the same command again.",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "The disk is full: model.safetensors of org/model"),
        (RuntimeError("File error: No space left on device (os error 28)"), "The disk is full: model.safetensors"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "Cannot write model.safetensors of org/model into the cache ({cache}): Permission denied. Fix that, or "
            "set HF_HOME to a folder that can be written.",
        ),
        (OSError("Consistency check failed: 3 bytes of 9"), "broke off (Consistency check failed: 3 bytes of 9)"),
        (RuntimeError(), "broke off (RuntimeError)"),
    ],
)
def test_a_file_that_cannot_be_written(
    stand_in: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise raised

    monkeypatch.setattr("huggingface_hub.file_download.http_get", fail)
    assert expected.format(cache=cache) in refusal("org/model")


def test_a_cache_that_cannot_be_a_folder(stand_in: HubStandIn, cache: Path) -> None:
    cache.write_text("in the way")
    assert "Cannot write model.safetensors of org/model into the cache" in refusal("org/model")


def test_errors_keep_their_cause(stand_in: HubStandIn) -> None:
    with pytest.raises(HubError) as raised:
        hub.fetch_model("org/nothing")
    assert isinstance(raised.value.__cause__, huggingface_hub.errors.RepositoryNotFoundError)
