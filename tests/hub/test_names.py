"""Which names can be those of Hub repositories and revisions, and what the published model is pinned to."""

from __future__ import annotations

import pytest

from spectra_jax import hub
from tests.hub.repository import COMMIT


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
def test_invalid_names(name: str) -> None:
    assert hub.parse(name) is None


def test_the_published_model_is_pinned() -> None:
    assert hub.PUBLISHED == "lab260/Spectra-AASIST3"
    assert hub.PUBLISHED_REVISION == "bc0ded888080ddad493177bb53aa6f5b95219d7c"
    assert hub.PUBLISHED_SHA256 == {
        "model.safetensors": "327762caab3106ecee5f26b821ccdc6ab1fe34906a3e7042f416c87927df2088",
        "spectra-aasist3.onnx": "5f05c29a01ad80c702b32654db87c2aa6e467c11c67b6d47f2fac873f846cae9",
    }
