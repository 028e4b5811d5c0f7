"""The rules of a submission: a valid one of each version, and every kind of problem."""

from __future__ import annotations

import copy
from datetime import date
from typing import Any

import pytest

from spectra_jax.arena.submission import check_submission

VALID: dict[str, Any] = {
    "schema_version": 4,
    "system": {
        "name": "Mine",
        "slug": "mine-1",
        "description": "A detector.",
        "code": "https://example.org/code",
        "checkpoint": "https://example.org/weights",
        "paper": {"arxiv_id": "2110.01200", "url": "https://arxiv.org/abs/2110.01200", "bibtex": "@article{x}"},
        "params_millions": 0.3,
    },
    "dataset": {"id": "org/corpus", "revision": "0123abc", "split": "test"},
    "scores": {"eer_percent": 1.5, "n_trials": 10, "n_skipped": 0},
    "artifact": {
        "scores_url": "https://huggingface.co/me/mine/resolve/0123abc/scores.txt",
        "scores_sha256": "0" * 64,
        "bench_version": "speech-spoof-bench==0.4.1",
    },
    "reproduction": {},
    "submitter": {"hf_username": "me", "contact": "me@example.org"},
    "submitted_at": date(2026, 11, 24),
    "notes": "",
}
REPRODUCED = {"reproduced_by": "x", "reproduced_at": "2026-11-24", "reproduced_bench_version": "1"}


def changed(path: str, value: Any, version: int = 4) -> dict[str, Any]:
    """The valid submission with another value at a path; `...` removes it."""
    content = copy.deepcopy(VALID) | {"schema_version": version}
    *parents, name = path.split(".")
    inner = content
    for parent in parents:
        inner = inner.setdefault(parent, {})
    if value is ...:
        del inner[name]
    else:
        inner[name] = value
    return content


def found(content: Any) -> list[str]:
    return [str(problem) for problem in check_submission(content)]


@pytest.mark.parametrize("version", [4, 5])
def test_valid_submissions(version: int) -> None:
    assert found(VALID | {"schema_version": version}) == []
    for optional in ("system.paper", "system.params_millions", "reproduction", "notes"):
        assert found(changed(optional, ..., version)) == [], optional
    matches = {4: ("scoring", "inference"), 5: ("scoring", "inference", "organizer", "closed-eval")}[version]
    for match in matches:
        assert found(changed("reproduction", REPRODUCED | {"match": match}, version)) == []


def test_fields_of_version_5() -> None:
    calibration = {"source_dataset": "org/DeepVoice", "threshold": -0.8}
    for path, value in (("system.trained_on", ["org/a", "org/b"]), ("calibration", calibration)):
        assert found(changed(path, value, 5)) == []
        assert found(changed(path, value, 4)) == [f"{path} is not a field of this version of a submission"]
    closed = REPRODUCED | {"match": "closed-eval"}
    assert found(changed("reproduction", closed)) == [
        "reproduction.match is 'closed-eval', not scoring or inference",
    ]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema_version", 3, "schema_version is 3, not 4 or 5"),
        ("schema_version", True, "schema_version is True, not 4 or 5"),
        ("system", None, "system is null, not an object"),
        ("system.paper", None, "system.paper is null, not an object"),
        ("system.paper.bibtex", ..., "system.paper.bibtex is missing: a text that is not empty"),
        ("system.description", ..., "system.description is missing: a text that is not empty"),
        ("system.slug", "Mine!", "system.slug is 'Mine!', not lower-case letters, digits and hyphens"),
        ("system.code", "github", "system.code is 'github', not an address, such as https://example.org/x"),
        ("system.extra", 1, "system.extra is not a field of this version of a submission"),
        ("dataset.id", "corpus", "dataset.id is 'corpus', not a dataset's id on the Hub, org/name"),
        ("dataset.revision", None, "dataset.revision is null, not the commit of the dataset that was scored"),
        ("dataset.revision", "main", "dataset.revision is 'main', not the commit"),
        ("scores.n_trials", 1.5, "scores.n_trials is 1.5, not a whole number of at least 0"),
        ("scores.eer_percent", float("nan"), "scores.eer_percent is nan, not a number"),
        ("scores.eer_percent", ..., "scores has no metric, such as eer_percent"),
        ("artifact.scores_url", "https://huggingface.co/me/mine/resolve/main/s.txt", "artifact.scores_url is 'https:"),
        ("artifact.bench_version", None, "artifact.bench_version is null, not the version of the Arena's tool"),
        ("reproduction", None, "reproduction is null, not an object"),
        ("reproduction", {"match": "scoring"}, "reproduction.reproduced_by is missing"),
        ("submitter", ..., "submitter.hf_username is missing"),
        ("submitted_at", "24.11.2026", "submitted_at is '24.11.2026', not a date, such as 2026-11-24"),
        (
            "scores.srr_complement",
            3.0,
            "calibration.source_dataset is missing: the id of the dataset that the threshold",
        ),
    ],
)
def test_each_problem_is_a_sentence(path: str, value: Any, message: str) -> None:
    assert found(changed(path, value))[0].startswith(message)


def test_what_is_no_object() -> None:
    assert found(None) == ["the submission is null, not an object"]
    assert len(found({})) == 17, "every field that is needed, and no other"
