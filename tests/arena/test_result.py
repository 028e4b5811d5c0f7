"""The `result.yaml` of a score file, and the check of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from spectra_jax.arena import reported
from spectra_jax.arena.result import (
    EER_TOLERANCE,
    Meta,
    Paper,
    Reproduction,
    Submitter,
    System,
    TransferredThreshold,
    check_result,
    make_result,
    read_meta,
    write_result,
)
from spectra_jax.arena.submission import check_submission
from spectra_jax.data.labels import Labels
from spectra_jax.data.sources import arena as dataset
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from tests.arena_datasets import COMMIT, NAME, SYSTEM

STATED: dict[str, Any] = {
    "system": SYSTEM,
    "revision": "0123abc",
    "scores_url": "https://huggingface.co/me/mine/resolve/0123abc/scores.txt",
    "bench_version": "speech-spoof-bench==0.4.1",
    "submitter": Submitter("me", "me@example.org"),
    "submitted_at": "2026-11-24",
}


def test_a_result_is_written_and_checked(scored: tuple[Path, Labels], tmp_path: Path) -> None:
    scores, labels = scored
    result = make_result(scores, labels, NAME, notes="über", **STATED)
    write_result(result, tmp_path / "result.yaml")
    text = (tmp_path / "result.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    assert "null" not in text and check_submission(content) == []
    assert content == result.to_dict() and list(content) == list(result.to_dict())
    assert (content["schema_version"], content["dataset"]["revision"]) == (4, "0123abc")
    assert (content["scores"]["n_trials"], content["scores"]["n_skipped"]) == (50, 1)
    assert "paper" not in content["system"] and content["reproduction"] == {} and "calibration" not in content
    assert content["submitted_at"] == "2026-11-24" and "srr_complement" not in content["scores"]
    values = {line.split()[0]: float(line.split()[1]) for line in scores.read_text().splitlines()}
    bonafide, spoof = ([values[f"t{index}"] for index in part] for part in (range(20), range(20, 49)))
    assert content["scores"]["eer_percent"] == 100 * metrics.eer(bonafide, spoof).rate
    assert check_result(content, scores, labels) == []


def test_a_result_has_the_lowest_version_that_has_its_fields(scored: tuple[Path, Labels], tmp_path: Path) -> None:
    scores, labels = scored
    paper = Paper("2110.01200", "https://arxiv.org/abs/2110.01200", "@article{x}")
    system = replace(SYSTEM, paper=paper, params_millions=0.3)
    closed = Reproduction("org", "2026-11-25", "speech-spoof-bench==0.4.1", "closed-eval")
    stated = STATED | {"system": system}
    versions = {
        4: stated | {"reproduction": replace(closed, match="scoring")},
        5: stated | {"system": replace(system, trained_on=("org/a",)), "reproduction": closed},
    }
    for version, given in versions.items():
        content = make_result(scores, labels, NAME, **given).to_dict()
        assert content["schema_version"] == version and check_submission(content) == []
        assert content["system"]["paper"] == {"arxiv_id": paper.arxiv_id, "url": paper.url, "bibtex": paper.bibtex}
    assert content["system"]["trained_on"] == ["org/a"] and content["reproduction"]["match"] == "closed-eval"


def test_a_dataset_without_bonafide_trials(scored: tuple[Path, Labels]) -> None:
    scores, labels = scored
    spoofed = Labels("spoofed", labels.utterance_ids, np.zeros(50, bool))
    with pytest.raises(
        InputError, match="no bona fide trials, so that there is no EER; the Arena reports srr_complement"
    ):
        make_result(scores, spoofed, NAME, **STATED)
    threshold = TransferredThreshold("org/DeepVoice", 0.5)
    content = make_result(scores, spoofed, NAME, **STATED, calibration=threshold).to_dict()
    assert content["schema_version"] == 5 and check_submission(content) == []
    values = [float(line.split()[1]) for line in scores.read_text().splitlines()]
    assert content["scores"]["srr_complement"] == pytest.approx(100 * np.mean([value >= 0.5 for value in values]))
    assert "eer_percent" not in content["scores"] and check_result(content, scores, spoofed) == []
    content["scores"]["srr_complement"] += 1
    (problem,) = check_result(content, scores, spoofed)
    assert problem.startswith("srr_complement is ")


def test_check_result_names_each_difference(scored: tuple[Path, Labels]) -> None:
    scores, labels = scored
    content = make_result(scores, labels, NAME, system=SYSTEM).to_dict()
    scores.write_text(scores.read_text() + "\n")
    content["scores"] |= {"n_skipped": 0, "eer_percent": content["scores"]["eer_percent"] + 2 * EER_TOLERANCE}
    problems = check_result(content, scores, labels)
    assert len(problems) == 3
    assert "the score file's sha256 is" in problems[0]
    assert "49 scored and 0 skipped of 50 trials" in problems[1]
    assert "eer_percent is" in problems[2]


def test_invalid_results_are_errors(scored: tuple[Path, Labels], tmp_path: Path) -> None:
    scores, labels = scored
    with pytest.raises(InputError, match="slug 'Mine!'"):
        System("Mine", "Mine!")
    with pytest.raises(InputError, match="its own format"):
        make_result(tmp_path / "s.csv", labels, NAME, system=SYSTEM)
    text = scores.read_text()
    for other in (f"utterance_id score\n{text}", "".join(f"{name} - spoof 0.5\n" for name in labels.utterance_ids)):
        (tmp_path / "other.txt").write_text(other)
        with pytest.raises(InputError, match=r"takes its own format, .*; line 1 is not `<utterance_id> <score>`"):
            make_result(tmp_path / "other.txt", labels, NAME, system=SYSTEM)
    fewer = Labels("fewer", labels.utterance_ids[:40], labels.bonafide[:40])
    with pytest.raises(InputError, match="9 trials that fewer does not have:\n  t40"):
        make_result(scores, fewer, NAME, system=SYSTEM)


def test_the_pinned_revision_is_that_of_a_dataset_of_the_same_size(
    scored: tuple[Path, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, labels = scored
    revision = make_result(scores, labels, NAME, system=SYSTEM).dataset.revision
    assert revision is None, "50 trials are not those of the pinned revision"
    monkeypatch.setitem(reported.REPORTED, "InTheWild", ("1.2", 50))
    assert make_result(scores, labels, NAME, system=SYSTEM).dataset.revision == COMMIT
    assert make_result(scores, labels, NAME, system=SYSTEM, revision="0123abc").dataset.revision == "0123abc"
    sonar = make_result(scores, labels, f"{dataset.ORGANISATION}/SONAR", system=SYSTEM)
    assert sonar.dataset.revision is None, "none is pinned"


def test_an_incomplete_submission_is_not_written(scored: tuple[Path, Labels], tmp_path: Path) -> None:
    scores, labels = scored
    with pytest.raises(InputError, match=r"not a valid submission:\n  system.description is missing.*\n  system.code"):
        write_result(make_result(scores, labels, NAME, system=System("Mine", "mine")), tmp_path / "r.yaml")
    assert not (tmp_path / "r.yaml").exists()


def test_a_meta_file(tmp_path: Path) -> None:
    path = tmp_path / "meta.yaml"
    path.write_text(
        "system: {name: A, slug: a, trained_on: [x/y], paper: {arxiv_id: '1', url: u, bibtex: b}}\nnotes: n\n"
    )
    meta = read_meta(path)
    assert meta == Meta(System("A", "a", paper=Paper("1", "u", "b"), trained_on=("x/y",)), "n")
    path.write_text("notes: n\n")
    assert read_meta(path) == Meta(System(), "n")
    for text in ("system: {nmae: A}", "[]", "system: {paper: {arxiv_id: '1'}}", "a: ["):
        path.write_text(text)
        with pytest.raises(InputError, match=r"not a meta.yaml of the Arena|not valid YAML"):
            read_meta(path)


def test_an_incomplete_result_is_an_error(scored: tuple[Path, Labels]) -> None:
    scores, labels = scored
    content = make_result(scores, labels, NAME, system=SYSTEM).to_dict()
    assert check_result(content, scores, labels) == []
    incomplete: list[Any] = [
        *({}, None, content | {"scores": None}),
        content | {"scores": {"n_trials": 2, "n_skipped": None, "eer_percent": 1.0}},
    ]
    for one in incomplete:
        with pytest.raises(InputError, match="not a result: it needs scores"):
            check_result(one, scores, labels)
