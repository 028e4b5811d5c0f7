"""Names of repositories, revisions and files on the Hub, and the published model's pins."""

from __future__ import annotations

import re
from typing import Literal

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
CONFIG = "config.json"

PUBLISHED = "lab260/Spectra-AASIST3"
PUBLISHED_REVISION = "bc0ded888080ddad493177bb53aa6f5b95219d7c"
PUBLISHED_ONNX = "spectra-aasist3.onnx"
PUBLISHED_SHA256 = {
    WEIGHTS: "327762caab3106ecee5f26b821ccdc6ab1fe34906a3e7042f416c87927df2088",
    PUBLISHED_ONNX: "5f05c29a01ad80c702b32654db87c2aa6e467c11c67b6d47f2fac873f846cae9",
}
ONNX_EXPORTS = {
    PUBLISHED: PUBLISHED_ONNX,
    "lab260/Spectra-AASIST": "spectra-aasist.onnx",
    "lab260/spectra_0": "model.onnx",
}
"""The ONNX export in the repository of each published detector."""
Kind = Literal["model", "dataset"]

# A part of a name: ASCII letters, digits, "-", "_" and ".", beginning and ending with a letter, a digit or "_".
_PART = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)
# A branch, a tag or a commit. git allows more characters, but those could form paths that lead elsewhere.
_REVISION = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def parse(name: str) -> tuple[str, str | None] | None:
    """Split `org/name` or `org/name@revision` into repository and revision.

    The revision is None where none is given, except for the published model, which is then at its pinned revision.
    Returns None where `name` cannot be a Hub name. A name that can be one may still be a local path, such as
    `runs/best`, so look on disk first.
    """
    repo, at, revision = name.partition("@")
    parts = repo.split("/")
    if len(parts) != 2 or not all(_PART.fullmatch(part) for part in parts):
        return None
    if "--" in repo or ".." in repo or repo.endswith(".git"):  # the Hub's own rules; "--" is its cache's separator
        return None
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        return None
    if not at:
        return repo, PUBLISHED_REVISION if repo == PUBLISHED else None
    return repo, revision


def is_commit(text: str) -> bool:
    """Whether a revision is a commit, 40 hexadecimal digits, rather than a branch or tag, which can move."""
    return _COMMIT.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """Whether a text is 64 hexadecimal digits."""
    return _SHA256.fullmatch(text) is not None


def is_plain_path(name: object) -> bool:
    """Whether a file's name leads nowhere but into the folder that it is joined to, on any system."""
    if not isinstance(name, str) or re.search(r"[\x00-\x1f\\]|^[A-Za-z]:", name):
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))
