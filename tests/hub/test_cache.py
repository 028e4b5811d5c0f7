"""Damaged files in the client's cache: found, removed, fetched again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spectra_jax import hub
from tests.hub.repository import SHA256, WEIGHTS, damage, refusal
from tests.hub_stand_in import HubStandIn


@pytest.mark.parametrize("symlinks", [True, False], ids=["symlinks", "no symlinks"])
def test_a_file_damaged_on_the_way_is_removed_and_fetched_again(
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


def test_a_cache_that_cannot_be_read(cache: Path) -> None:
    (cache / "models--org--model").mkdir(parents=True)
    (cache / "models--org--model" / "snapshots").write_text("in the way")
    assert refusal("org/model") == (
        f"Cannot read the cache ({cache}): Not a directory. Fix its permissions, or set HF_HOME to another folder."
    )
