"""Models, files and lists of files with the real Hub client, from a Hub on the loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants as client
from safetensors.numpy import load_file, save

from spectra_jax import hub
from spectra_jax.errors import HubError
from spectra_jax.files.tensor_file import combined_sha256
from tests.hub.repository import COMMIT, MODEL, NEWER, SHA256, refusal
from tests.hub_stand_in import HubStandIn

PROGRAM = Path(__file__).parents[1] / "programs" / "fetch_model.py"
INDEX = "model.safetensors.index.json"


def test_fetches_the_weights_and_the_configuration(stand_in: HubStandIn, cache: Path) -> None:
    fetched = hub.fetch_model("org/model")
    assert fetched.repo == "org/model"
    assert fetched.revision == stand_in.commit("org/model", "main")
    assert fetched.sha256 == SHA256
    assert fetched.weights.name == "model.safetensors" and fetched.weights.is_relative_to(cache)
    assert load_file(fetched.weights)["weight"].shape == (4096,)
    assert fetched.config is not None and fetched.config.read_bytes() == b"{}"
    assert fetched.config.parent == fetched.weights.parent


def test_requests_two_files_and_no_pickle(stand_in: HubStandIn) -> None:
    hub.fetch_model("org/model")
    assert {path.rsplit("/", 1)[1] for path in stand_in.requested("HEAD") + stand_in.requested("GET", "hub")} == {
        "model.safetensors",
        "config.json",
    }
    assert stand_in.requested("GET", "cdn") == [f"/lfs/{SHA256}"]


def test_a_repository_without_configuration(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = hub.fetch_model("org/bare")
    assert fetched.config is None and fetched.sha256 == SHA256
    # The cache knows that the repository has none: offline that is not a missing file.
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    assert hub.fetch_model("org/bare") == fetched


def test_a_revision(stand_in: HubStandIn) -> None:
    fetched = hub.fetch_model(f"org/model@{COMMIT}")
    assert (fetched.revision, fetched.config) == (COMMIT, None)
    assert fetched.weights.read_bytes() == NEWER


def test_both_files_are_of_one_commit(stand_in: HubStandIn) -> None:
    """A branch that moves during the fetch does not mix two models."""
    before = stand_in.commit("org/model", "main")
    stand_in.repos["org/model"][before] = dict(MODEL)

    def move_after_the_weights(name: str, headers: dict[str, str]) -> None:
        if name == "config.json":
            stand_in.repos["org/model"]["main"] = {"config.json": b'{"moved": true}', "model.safetensors": NEWER}

    stand_in.alter = move_after_the_weights
    fetched = hub.fetch_model("org/model")
    assert fetched.config is not None and fetched.config.read_bytes() == b"{}"
    assert fetched.revision == before


def test_a_configuration_alone(stand_in: HubStandIn) -> None:
    config = hub.fetch_config("org/model")
    assert config is not None and config.read_bytes() == b"{}"
    assert hub.fetch_config(f"org/model@{COMMIT}") is None
    assert {path.rsplit("/", 1)[1] for path in stand_in.requested("GET")} == {"config.json"}
    with pytest.raises(HubError, match="is not the name of a Hub repository"):
        hub.fetch_config("model")


def test_the_commit_of_a_branch_is_requested_each_time(stand_in: HubStandIn) -> None:
    first = hub.fetch_model("org/model")
    stand_in.repos["org/model"]["main"] = {"config.json": b"{}", "model.safetensors": NEWER}
    second = hub.fetch_model("org/model")
    assert first.revision != second.revision
    assert second.weights.read_bytes() == NEWER


def test_a_fresh_process_takes_its_settings_from_the_environment(stand_in: HubStandIn, tmp_path: Path) -> None:
    """A fresh process with nothing but `HF_ENDPOINT` and `HF_HOME`; the client is imported by the fetch only."""
    root = Path(hub.__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": stand_in.url + "/", "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, PROGRAM, "org/model"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    sha256, weights = done.stdout.split(maxsplit=1)
    assert sha256 == SHA256
    assert Path(weights.strip()).is_relative_to(tmp_path / "home" / "hub")


def test_an_invalid_name_is_refused() -> None:
    assert refusal("./missing.safetensors") == (
        "'./missing.safetensors' is not the name of a Hub repository. Write organisation/name or "
        "organisation/name@revision; a local path must exist."
    )


def test_pickles_are_not_read(stand_in: HubStandIn) -> None:
    assert refusal("org/pickled") == (
        "org/pickled has no model.safetensors at revision main, and only safetensors weights are read, never pickles "
        "such as pytorch_model.bin. Name a repository or revision that has one, or give a local path as the model."
    )
    assert stand_in.requested("GET") == []


def test_the_published_weights_are_checked_against_the_pinned_digest(
    stand_in: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = hub.PUBLISHED_SHA256["model.safetensors"]
    assert refusal(hub.PUBLISHED) == (
        f"model.safetensors of {hub.PUBLISHED} at revision {hub.PUBLISHED_REVISION} has sha256 {SHA256} where "
        f"{pinned} is expected: the file was damaged or replaced on its way or on disk. It has been removed from "
        f"{cache}/models--lab260--Spectra-AASIST3/snapshots/{hub.PUBLISHED_REVISION}/model.safetensors; run the same "
        "command again to fetch it afresh."
    )
    # A branch at the same commit: the same digest is required.
    assert f"{SHA256} where {pinned}" in refusal(f"{hub.PUBLISHED}@main")

    monkeypatch.setitem(hub.PUBLISHED_SHA256, "model.safetensors", SHA256)
    assert hub.fetch_model(hub.PUBLISHED).sha256 == SHA256
    assert hub.fetch_model(f"{hub.PUBLISHED}@main").revision == hub.PUBLISHED_REVISION


def put_shards(stand_in: HubStandIn, **weight_map: str) -> dict[str, bytes]:
    """A repository whose weights are in two files, with this map or the right one."""
    # With contents that no other file has, since the stand-in's CDN finds a file by its digest.
    shards = {f"{name}.safetensors": save({name: np.full(99, n)}) for n, name in enumerate(("one", "two"))}
    weight_map = weight_map or {"a": "one.safetensors", "b": "two.safetensors"}
    index = json.dumps({"weight_map": weight_map}).encode()
    stand_in.repos["org/shards"] = {"main": {"config.json": b"{}", INDEX: index, **shards}}
    return shards


@pytest.mark.parametrize("without_a_hub", ["offline", "down", "login page"])
def test_weights_in_several_files(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch, no_network: Callable[[], str], without_a_hub: str
) -> None:
    shards = put_shards(stand_in)
    fetched = hub.fetch_model("org/shards")
    assert fetched.weights.name == INDEX and fetched.config is not None
    for name, content in shards.items():
        assert (fetched.weights.parent / name).read_bytes() == content
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in shards.items()}
    assert fetched.sha256 == combined_sha256(digests)
    # The cache also knows that the repository has no model.safetensors.
    if without_a_hub == "offline":
        monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    elif without_a_hub == "down":
        no_network()
    else:
        stand_in.status = 200
    assert hub.fetch_model("org/shards") == fetched


def test_each_of_several_files_is_verified(stand_in: HubStandIn) -> None:
    put_shards(stand_in)
    stand_in.garble("two.safetensors")
    text = refusal("org/shards")
    assert text.startswith("two.safetensors of org/shards at revision ") and "It has been removed from" in text
    stand_in.heal()
    hub.fetch_model("org/shards")


@pytest.mark.parametrize(
    ("shard", "expected"),
    [
        (
            "../../../outside.safetensors",
            "weight_map has '../../../outside.safetensors' for a, which is not",
        ),
        ("three.safetensors", "org/shards has no three.safetensors at revision "),
    ],
)
def test_an_index_that_names_a_file_outside_the_repository(stand_in: HubStandIn, shard: str, expected: str) -> None:
    put_shards(stand_in, a=shard)
    assert expected in refusal("org/shards")
    assert not any("outside" in request.path for request in stand_in.requests)


@pytest.mark.parametrize(
    "name", ["../data/test-1.parquet", "/etc/test-1.parquet", "data/../../test-1.parquet", "data//test-1.parquet", "",
             "data\\..\\test-1.parquet", "data/./test-1.parquet", "C:/test-1.parquet", "data/test-1\n.parquet", 3],
)  # fmt: skip
def test_a_listed_name_that_would_lead_out_of_the_folder(stand_in: HubStandIn, name: object) -> None:
    stand_in.repos["datasets/org/trials"] = {"main": {"data/test-0.parquet": b"PAR1"}}
    stand_in.listed = ["notes: ä.txt", "a..b", ".gitattributes"]
    assert hub.list_dataset("org/trials", "main")[1] == ["data/test-0.parquet", *stand_in.listed]
    stand_in.listed = [name]
    with pytest.raises(HubError) as raised:
        hub.list_dataset("org/trials", "main")
    assert f"a file named {name!r}, not a path inside the repository" in str(raised.value)


def test_the_list_of_another_commit_than_requested_is_refused(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SimpleNamespace(sha="f" * 40, siblings=[])
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: other)
    with pytest.raises(HubError, match=f"with the files of commit {'f' * 40}, where {'e' * 40} was requested"):
        hub.list_dataset("org/trials", "e" * 40)
