"""The stand-in Hub itself: if it were wrong, the other tests here would prove nothing."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from tests.hub.repository import COMMIT
from tests.hub_stand_in import HubStandIn


def test_the_stand_in_answers_other_requests_of_the_client(stand_in: HubStandIn, tmp_path: Path) -> None:
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
