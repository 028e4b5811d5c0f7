"""Fetching models with the real Hub client, from a Hub on the loopback that can be told to misbehave."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants as client
from safetensors.numpy import load_file, save

from spectra_jax import hub
from spectra_jax.files.tensor_file import combined_sha256
from tests.hub_stand_in import HubStandIn

WEIGHTS = save({"weight": np.arange(4096, dtype=np.float32)})
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
NEWER = save({"weight": np.ones(8, dtype=np.float32)})
COMMIT = "0123456789abcdef0123456789abcdef01234567"
READER = "hf_reader"

# A whole repository as people publish them: the fetch is to take two of its files.
MODEL = {
    "README.md": b"# A model\n",
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"\x80\x04a pickle, never to be fetched",
}


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
    """The client's waits between retries, noted and not waited."""
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


def refusal(name: str) -> str:
    """What `fetch_model` says when it cannot: one line, of what happened and what to do."""
    with pytest.raises(hub.HubError) as raised:
        hub.fetch_model(name)
    text = str(raised.value)
    assert "\n" not in text and text.endswith(".") and ". " in text
    return text


def damage(path: Path) -> None:
    """Invert a byte of a file on disk, through whatever links lead to it."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.resolve().write_bytes(content)


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name", ("org", "name", None)),
        ("Org-1/na.me_2", ("Org-1", "na.me_2", None)),
        ("org/name@main", ("org", "name", "main")),
        (f"org/name@{COMMIT}", ("org", "name", COMMIT)),
        ("org/name@v1.0-rc+1", ("org", "name", "v1.0-rc+1")),
        ("org/name@refs/pr/3", ("org", "name", "refs/pr/3")),
        ("lab260/Spectra-AASIST3@main", ("lab260", "Spectra-AASIST3", "main")),
        ("lab260/Spectra-AASIST3", ("lab260", "Spectra-AASIST3", "bc0ded888080ddad493177bb53aa6f5b95219d7c")),
    ],
)
def test_names(name: str, expected: tuple[str, str, str | None]) -> None:
    org, repo, revision = expected
    assert hub.parse(name) == (f"{org}/{repo}", revision)


@pytest.mark.parametrize(
    "name",
    [
        "", "name", "org/", "/name", "/tmp/model", "./model", "../model", "~/model", "org/name/file", "org/na me",
        "org//name", "org/name.", "-org/name", "org/na--me", "org/na..me", "org/name.git", "C:/model", "org\\name",
        "orgé/name", "org/name@", "org/name@a b", "org/name@../../x", "org/name@/x", "org/name@x/", "org/name@a@b",
        "https://huggingface.co/org/name", "org/name\n", "org/" + "x" * 97,
    ],
)  # fmt: skip
def test_what_cannot_be_a_name(name: str) -> None:
    assert hub.parse(name) is None


def test_a_name_that_is_none_is_refused() -> None:
    assert refusal("./missing.safetensors") == (
        "'./missing.safetensors' is not the name of a Hub repository. Write organisation/name or "
        "organisation/name@revision; a local path has to exist."
    )


def test_the_published_model_is_pinned() -> None:
    assert hub.PUBLISHED == "lab260/Spectra-AASIST3"
    assert hub.PUBLISHED_REVISION == "bc0ded888080ddad493177bb53aa6f5b95219d7c"
    assert hub.PUBLISHED_SHA256 == {
        "model.safetensors": "327762caab3106ecee5f26b821ccdc6ab1fe34906a3e7042f416c87927df2088",
        "spectra-aasist3.onnx": "5f05c29a01ad80c702b32654db87c2aa6e467c11c67b6d47f2fac873f846cae9",
    }


# Fetching


def test_fetches_the_weights_and_the_configuration(stand_in: HubStandIn, cache: Path) -> None:
    fetched = hub.fetch_model("org/model")
    assert fetched.repo == "org/model"
    assert fetched.revision == stand_in.commit("org/model", "main")
    assert fetched.sha256 == SHA256
    assert fetched.weights.name == "model.safetensors" and fetched.weights.is_relative_to(cache)
    assert load_file(fetched.weights)["weight"].shape == (4096,)
    assert fetched.config is not None and fetched.config.read_bytes() == b"{}"
    assert fetched.config.parent == fetched.weights.parent


def test_asks_for_two_files_and_no_pickle(stand_in: HubStandIn) -> None:
    hub.fetch_model("org/model")
    assert {path.rsplit("/", 1)[1] for path in stand_in.asked("HEAD") + stand_in.asked("GET", "hub")} == {
        "model.safetensors",
        "config.json",
    }
    assert stand_in.asked("GET", "cdn") == [f"/lfs/{SHA256}"]


def test_a_repository_without_configuration(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = hub.fetch_model("org/bare")
    assert fetched.config is None and fetched.sha256 == SHA256
    # That there is none is remembered: offline it is an answer, not a gap in the cache.
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    assert hub.fetch_model("org/bare") == fetched


def test_a_revision(stand_in: HubStandIn) -> None:
    fetched = hub.fetch_model(f"org/model@{COMMIT}")
    assert (fetched.revision, fetched.config) == (COMMIT, None)
    assert fetched.weights.read_bytes() == NEWER


def test_both_files_are_of_one_commit(stand_in: HubStandIn) -> None:
    """A branch that moves while it is fetched does not mix two models."""
    before = stand_in.commit("org/model", "main")
    stand_in.repos["org/model"][before] = dict(MODEL)
    answer = stand_in._resolve

    def move_after_the_weights(commit: str, files: dict[str, bytes], name: str) -> object:
        if name == "config.json":
            stand_in.repos["org/model"]["main"] = {"config.json": b'{"moved": true}', "model.safetensors": NEWER}
        return answer(commit, files, name)

    stand_in._resolve = move_after_the_weights  # type: ignore[method-assign, assignment]
    fetched = hub.fetch_model("org/model")
    assert fetched.config is not None and fetched.config.read_bytes() == b"{}"
    assert fetched.revision == before


def test_a_branch_is_looked_up_each_time(stand_in: HubStandIn) -> None:
    first = hub.fetch_model("org/model")
    stand_in.repos["org/model"]["main"] = {"config.json": b"{}", "model.safetensors": NEWER}
    second = hub.fetch_model("org/model")
    assert first.revision != second.revision
    assert second.weights.read_bytes() == NEWER


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


def test_the_environment_alone(stand_in: HubStandIn, tmp_path: Path) -> None:
    """A fresh process with nothing but `HF_ENDPOINT` and `HF_HOME`; the client is imported by the fetch only."""
    program = """
        import sys
        from spectra_jax import hub
        assert "huggingface_hub" not in sys.modules
        fetched = hub.fetch_model("org/model")
        print(fetched.sha256, fetched.weights)
    """
    root = Path(hub.__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": stand_in.url + "/", "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    sha256, weights = done.stdout.split(maxsplit=1)
    assert sha256 == SHA256
    assert Path(weights.strip()).is_relative_to(tmp_path / "home" / "hub")


# The digest


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
    # By the name of a branch it is the same commit, and the same digest has to hold.
    assert f"{SHA256} where {pinned}" in refusal(f"{hub.PUBLISHED}@main")

    monkeypatch.setattr(hub, "PUBLISHED_SHA256", {"model.safetensors": SHA256})
    assert hub.fetch_model(hub.PUBLISHED).sha256 == SHA256
    assert hub.fetch_model(f"{hub.PUBLISHED}@main").revision == hub.PUBLISHED_REVISION


@pytest.mark.parametrize("symlinks", [True, False], ids=["symlinks", "no symlinks"])
def test_wrong_bytes_are_removed_and_fetched_again(
    stand_in: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch, symlinks: bool
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda *args, **kwargs: symlinks)
    stand_in.garble("model.safetensors")
    text = refusal("org/model")
    assert f"where {SHA256} is expected" in text and "It has been removed" in text
    assert [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size >= len(WEIGHTS)] == []
    stand_in.heal()
    fetched = hub.fetch_model("org/model")
    assert fetched.weights.read_bytes() == WEIGHTS
    assert fetched.weights.is_symlink() == symlinks


def test_a_file_damaged_in_the_cache_is_found_and_fetched_again(stand_in: HubStandIn) -> None:
    name = f"org/model@{stand_in.commit('org/model', 'main')}"
    damage(hub.fetch_model(name).weights)
    assert f"where {SHA256} is expected" in refusal(name)
    assert hub.fetch_model(name).sha256 == SHA256


def shared_store(weights: Path, store: Path) -> Path:
    """Move a blob into `store`, under a digest that is not its sha256, and leave a link; as the client does for xet."""
    blob = weights.resolve()
    target = store / ("e" * 64)
    store.mkdir(parents=True)
    blob.rename(target)
    blob.symlink_to(os.path.relpath(target, blob.parent))
    return target


def test_a_blob_in_the_shared_store_keeps_its_digest(stand_in: HubStandIn, cache: Path) -> None:
    name = f"org/model@{stand_in.commit('org/model', 'main')}"
    stored = shared_store(hub.fetch_model(name).weights, cache / "blobs" / "ee")
    assert hub.fetch_model(name).sha256 == SHA256
    damage(stored)
    assert "It has been removed" in refusal(name)
    assert not stored.exists()  # or the client would link to it again
    assert hub.fetch_model(name).weights.read_bytes() == WEIGHTS


def test_a_file_linked_into_the_cache_from_elsewhere_is_not_deleted(stand_in: HubStandIn, tmp_path: Path) -> None:
    name = f"org/model@{stand_in.commit('org/model', 'main')}"
    elsewhere = shared_store(hub.fetch_model(name).weights, tmp_path / "mine")
    damage(elsewhere)
    assert "It has been removed" in refusal(name)
    assert elsewhere.exists()
    assert hub.fetch_model(name).sha256 == SHA256


# Without a network


def test_no_network_and_not_in_the_cache(cache: Path, no_network: Callable[[], str]) -> None:
    endpoint = no_network()
    began = time.monotonic()
    text = refusal(hub.PUBLISHED)
    assert time.monotonic() - began < 5
    assert text == (
        f"Cannot reach {endpoint} ([Errno {errno.ECONNREFUSED}] Connection refused), and the cache ({cache}) has no "
        f"model.safetensors of {hub.PUBLISHED} at revision {hub.PUBLISHED_REVISION}. Connect to the network and run "
        "the same command again, or give a local path as the model, or `--model demo`."
    )


def test_a_network_that_swallows_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HF_HUB_ETAG_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert "Cannot reach" in refusal("org/model")
    assert time.monotonic() - began < 5  # one try, where the client alone would go on for minutes


@pytest.mark.parametrize(
    "endpoint",
    ["huggingface.example", "ftp://x", "http://", "http://[::1", "http://x:port", "https://x y", "https://x?a"],
)
def test_an_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    sentence = (
        f"HF_ENDPOINT is {endpoint.rstrip('/')!r}, which is not the address of a Hub. Set it to one such as "
        "https://huggingface.co, or unset it, or give a local path as the model, or `--model demo`."
    )
    assert refusal("org/model") == sentence
    with pytest.raises(hub.HubError) as raised:
        hub.list_dataset("org/trials", "main")
    assert str(raised.value) == sentence


def test_a_login_page_is_not_a_hub(stand_in: HubStandIn) -> None:
    stand_in.status = 200
    assert "what answers there is not a Hub; is it a proxy's or a network's login page?" in refusal("org/model")


@pytest.mark.parametrize("trouble", ["down", "login page", "error"])
def test_without_the_hub_the_cache_serves(stand_in: HubStandIn, no_network: Callable[[], str], trouble: str) -> None:
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


def test_offline_without_it(stand_in: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    assert refusal("org/model") == (
        f"The Hub client is offline (HF_HUB_OFFLINE is set), and the cache ({cache}) has no model.safetensors of "
        "org/model at revision main. Unset HF_HUB_OFFLINE to fetch it, or give a local path as the model, or "
        "`--model demo`."
    )
    assert stand_in.requests == []


def test_offline_with_half_of_it(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights whose configuration was never fetched must not pass for a model that has none."""
    fetched = hub.fetch_model("org/model")
    assert fetched.config is not None
    fetched.config.unlink()
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    assert "has no config.json of org/model" in refusal("org/model")


# Weights in several files

INDEX = "model.safetensors.index.json"


def put_shards(stand_in: HubStandIn, **weight_map: str) -> dict[str, bytes]:
    """A repository whose weights are in two files, with this map or the right one."""
    # Other than in any other file, since the stand-in's CDN finds a file by its digest.
    shards = {f"{name}.safetensors": save({name: np.full(99, n)}) for n, name in enumerate(("one", "two"))}
    weight_map = weight_map or {"a": "one.safetensors", "b": "two.safetensors"}
    index = json.dumps({"weight_map": weight_map}).encode()
    stand_in.repos["org/shards"] = {"main": {"config.json": b"{}", INDEX: index, **shards}}
    return shards


@pytest.mark.parametrize("without_a_hub", ["offline", "down"])
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
    # What is cached serves without the Hub, which has no model.safetensors, as the cache knows.
    if without_a_hub == "offline":
        monkeypatch.setattr(client, "HF_HUB_OFFLINE", True)
    else:
        no_network()
    assert hub.fetch_model("org/shards") == fetched


def test_each_of_several_files_is_verified(stand_in: HubStandIn) -> None:
    put_shards(stand_in)
    stand_in.garble("two.safetensors")
    text = refusal("org/shards")
    assert text.startswith("two.safetensors of org/shards at revision ") and "It has been removed from" in text
    stand_in.heal()
    hub.fetch_model("org/shards")


@pytest.mark.parametrize(
    ("shard", "said"),
    [
        (
            "../../../outside.safetensors",
            "weight_map has '../../../outside.safetensors' for a, which is not",
        ),
        ("three.safetensors", "org/shards has no three.safetensors at revision "),
    ],
)
def test_an_index_that_names_no_file_of_the_repository(stand_in: HubStandIn, shard: str, said: str) -> None:
    put_shards(stand_in, a=shard)
    assert said in refusal("org/shards")
    assert not any("outside" in request.path for request in stand_in.requests)


# Answers that no Hub gives


def nothing_but(cache: Path, *names: str) -> bool:
    """Whether nothing was written beside or into the cache, but for files in it of these names."""
    beside = [path for path in cache.parent.iterdir() if path != cache]
    return not beside and {path.name for path in cache.rglob("*") if path.is_file()} <= {"CACHEDIR.TAG", *names}


@pytest.mark.parametrize("when", ["always", "the second time"])
@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("X-Linked-Etag", '"../../../../outside"', "the ETag '\"../../../../outside\"', not a sha1 or sha256 in hex"),
        ("X-Linked-Etag", "/tmp/outside", "the ETag '/tmp/outside', not a sha1"),
        ("X-Linked-Etag", 'W/"' + "a" * 63 + '/"', "not a sha1"),
        ("X-Repo-Commit", "../../../outside", "the commit '../../../outside', not 40 hexadecimal digits"),
        ("X-Repo-Commit", "main", "the commit 'main', not 40 hexadecimal digits"),
        ("X-Xet-Hash", "../../outside", "the xet hash '../../outside', not 64 hexadecimal digits"),
    ],
)
def test_headers_that_would_be_paths_out_of_the_cache(
    stand_in: HubStandIn, cache: Path, header: str, value: str, said: str, when: str
) -> None:
    """The client asks again before it downloads, and a second answer may be another."""
    answers = 0

    def forge(name: str, headers: dict[str, str]) -> None:
        nonlocal answers
        answers += 1
        if when == "always" or answers > 1:
            headers[header] = value

    stand_in.alter = forge
    text = refusal("org/model")
    assert text.startswith(f"{stand_in.url} answered the request for org/model with the ") and said in text
    assert text.endswith("That is not a Hub's answer, and nothing was written; check HF_ENDPOINT.")
    assert stand_in.asked("GET") == []
    assert nothing_but(cache)
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
    """That a commit lacks a file is noted in the cache as well, under the commit's name."""
    stand_in.alter = lambda name, headers: headers.update({"X-Repo-Commit": "../../../outside"})
    assert "not 40 hexadecimal digits" in refusal("org/pickled")
    assert nothing_but(cache)


def test_another_commit_than_asked_for(stand_in: HubStandIn) -> None:
    other = "f" * 40
    stand_in.alter = lambda name, headers: headers.update({"X-Repo-Commit": other})
    assert f"with a file of commit {other}, where {COMMIT} was asked for" in refusal(f"org/model@{COMMIT}")


def test_answers_are_checked_in_new_sessions_as_well(stand_in: HubStandIn, cache: Path) -> None:
    """The client makes another session after a failed connection."""
    hub.fetch_model("org/bare")
    huggingface_hub.close_session()
    stand_in.alter = lambda name, headers: headers.update({"X-Linked-Etag": "../../../../outside"})
    assert "not a sha1" in refusal("org/model")


def test_other_uses_of_the_client_are_left_alone(stand_in: HubStandIn, tmp_path: Path) -> None:
    """Programs that fetch from the Hub themselves see what they always saw."""
    hub.fetch_model("org/model")
    stand_in.alter = lambda name, headers: headers.update({"X-Linked-Etag": '"of-another-kind"'})
    url = f"{stand_in.url}/org/model/resolve/main/model.safetensors"
    assert huggingface_hub.get_hf_file_metadata(url).etag == "of-another-kind"


@pytest.mark.parametrize(
    "name", ["../data/test-1.parquet", "/etc/test-1.parquet", "data/../../test-1.parquet", "data//test-1.parquet", "",
             "data\\..\\test-1.parquet", "data/./test-1.parquet", "C:/test-1.parquet", "data/test-1\n.parquet", 3],
)  # fmt: skip
def test_a_listed_name_that_would_be_a_path(stand_in: HubStandIn, name: object) -> None:
    stand_in.repos["datasets/org/trials"] = {"main": {"data/test-0.parquet": b"PAR1"}}
    stand_in.listed = ["notes: ä.txt", "a..b", ".gitattributes"]
    assert hub.list_dataset("org/trials", "main")[1] == ["data/test-0.parquet", *stand_in.listed]
    stand_in.listed = [name]
    with pytest.raises(hub.HubError) as raised:
        hub.list_dataset("org/trials", "main")
    assert f"a file named {name!r}, not a path inside the repository" in str(raised.value)


@pytest.mark.parametrize(
    ("header", "value"), [("Retry-After", "301"), ("RateLimit", '"resolvers";r=0;t=301'), ("Retry-After", "9" * 30)]
)
def test_a_wait_that_is_too_long_is_not_waited(
    stand_in: HubStandIn, no_sleep: list[float], header: str, value: str
) -> None:
    stand_in.deny("model.safetensors", 429, {header: value})
    text = refusal("org/model")
    seconds = 301 if "301" in value else int("9" * 18)
    assert text.startswith(f"{stand_in.url} does not serve org/model for another {seconds:,} seconds. Run the same")
    assert no_sleep == []


def test_a_token_that_cannot_be_read(stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    token = tmp_path / "file" / "token"
    monkeypatch.setattr(client, "HF_TOKEN_PATH", str(token))
    assert refusal("org/model") == (
        f"Cannot read {token}: Not a directory. Fix that, or set HF_HOME to a folder that can be read and written."
    )


def test_a_download_that_hangs_ends(
    stand_in: HubStandIn, no_sleep: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    stand_in.hang("model.safetensors")
    text = refusal("org/model")
    assert text.startswith("The download of model.safetensors of org/model broke off (") and "timed out)" in text


# What the Hub refuses


@pytest.mark.parametrize("token", [None, READER], ids=["stranger", "logged in"])
@pytest.mark.parametrize("private", [False, True], ids=["missing", "private"])
def test_a_repository_that_is_not_there(
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


@pytest.mark.parametrize("token", [None, READER], ids=["stranger", "logged in"])
def test_a_gated_repository(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    stand_in.gated["org/model"] = {"hf_granted"}
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    assert refusal("org/model") == (
        f"org/model is gated: its owner grants access to one account at a time. Ask for access at "
        f"{stand_in.url}/org/model, then set HF_TOKEN to a token of that account."
    )


def test_a_revision_that_is_not_there(stand_in: HubStandIn) -> None:
    assert refusal("org/model@v9") == (
        "org/model has no revision v9. Check the branch, tag or commit after the @ in org/model@v9, or leave the @ and "
        "what follows it away."
    )


def test_pickles_are_not_read(stand_in: HubStandIn) -> None:
    assert refusal("org/pickled") == (
        "org/pickled has no model.safetensors at revision main, and only safetensors weights are read, never pickles "
        "such as pytorch_model.bin. Name a repository or revision that has one, or give a local path as the model."
    )
    assert stand_in.asked("GET") == []


def test_a_token_that_is_nobodys(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_revoked")
    text = refusal("org/model")
    assert text == (
        f"{stand_in.url} does not accept the access token it was sent for org/model. Set HF_TOKEN to a valid token, or "
        "unset it (and `hf auth logout`) to read public repositories without one."
    )
    assert "hf_revoked" not in text


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, "denies access to org/model. Set HF_TOKEN to a token that may read it, or"),
        (429, "has had too many requests from here and does not serve org/model for now. Wait some minutes"),
        (503, "answered the request for org/model with an error, HTTP status 503. Run the same command again later"),
    ],
)
def test_other_refusals(stand_in: HubStandIn, status: int, expected: str) -> None:
    stand_in.status = status
    assert expected in refusal("org/model")
    assert len(stand_in.requests) == 1


# Downloads that do not end well


def test_a_download_that_breaks_once_is_resumed(
    stand_in: HubStandIn, no_sleep: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "DOWNLOAD_CHUNK_SIZE", 1024)
    stand_in.drop("model.safetensors", after=5000, times=1)
    assert hub.fetch_model("org/model").sha256 == SHA256
    ranges = [request.headers.get("range") for request in stand_in.requests if request.server == "cdn"]
    assert ranges == [None, "bytes=4096-"]
    assert len(no_sleep) == 1


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_download_that_breaks_every_time(
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
def test_a_disk_that_does_not_take_the_file(
    stand_in: HubStandIn, cache: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise raised

    monkeypatch.setattr("huggingface_hub.file_download.http_get", fail)
    assert expected.format(cache=cache) in refusal("org/model")


def test_a_cache_that_cannot_be_a_folder(stand_in: HubStandIn, cache: Path) -> None:
    cache.write_text("in the way")
    assert "Cannot write model.safetensors of org/model into the cache" in refusal("org/model")


def test_a_cache_that_cannot_be_read(cache: Path) -> None:
    (cache / "models--org--model").mkdir(parents=True)
    (cache / "models--org--model" / "snapshots").write_text("in the way")
    assert refusal("org/model") == (
        f"Cannot read the cache ({cache}): Not a directory. Fix its permissions, or set HF_HOME to another folder."
    )


def test_the_network_going_away_before_the_download(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata arrives and then the client finds no Hub any more."""

    def gone(*args: object, **kwargs: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("nothing here") from ConnectionError("Network is down")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", gone)
    assert f"Cannot reach {stand_in.url} (Network is down)" in refusal("org/model")


def test_failures_keep_their_cause(stand_in: HubStandIn) -> None:
    with pytest.raises(hub.HubError) as raised:
        hub.fetch_model("org/nothing")
    assert isinstance(raised.value.__cause__, huggingface_hub.errors.RepositoryNotFoundError)


# The stand-in itself, where a wrong one would make the tests above say nothing


def test_the_stand_in_answers_the_clients_other_questions(stand_in: HubStandIn, tmp_path: Path) -> None:
    stand_in.repos["datasets/org/trials"] = {"main": {"data/a.parquet": b"PAR1" * 9, "README.md": b"# Trials\n"}}
    api = huggingface_hub.HfApi(endpoint=stand_in.url)
    assert api.model_info("org/model", revision=COMMIT).sha == COMMIT
    assert sorted(api.list_repo_files("org/trials", repo_type="dataset")) == ["README.md", "data/a.parquet"]
    folder = Path(api.snapshot_download("org/trials", repo_type="dataset", cache_dir=tmp_path / "trials"))
    assert (folder / "data" / "a.parquet").read_bytes() == b"PAR1" * 9


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("bytes=0-3", 206, b"# A "),
        ("bytes=4-", 206, b"model\n"),
        ("bytes=-3", 206, b"el\n"),
        ("bytes=8-99", 206, b"l\n"),
        ("bytes=10-", 416, b""),
    ],
)
def test_the_stand_in_serves_ranges(stand_in: HubStandIn, header: str, status: int, body: bytes) -> None:
    url = f"{stand_in.url}/org/model/resolve/main/README.md"
    response = huggingface_hub.get_session().get(url, headers={"Range": header})
    assert (response.status_code, response.content) == (status, body)
