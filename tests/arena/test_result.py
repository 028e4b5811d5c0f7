"""The `result.yaml` of a score file, and the check of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spectra_jax.arena.result import EER_TOLERANCE, System, check_result, make_result, write_result
from spectra_jax.data.labels import Labels
from spectra_jax.data.sources import arena as dataset
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from tests.arena_datasets import COMMIT, NAME, SYSTEM, labels_file
from tests.conftest import spectra


def test_a_result_is_written_and_checked(scored: tuple[Path, Labels], tmp_path: Path) -> None:
    scores, labels = scored
    result = make_result(scores, labels, NAME, system=SYSTEM, notes="über")
    write_result(result, tmp_path / "result.yaml")
    content = yaml.safe_load((tmp_path / "result.yaml").read_text())
    assert content == result.to_dict() and list(content) == list(result.to_dict())
    assert (content["schema_version"], content["dataset"]["revision"]) == (4, COMMIT)
    assert (content["scores"]["n_trials"], content["scores"]["n_skipped"]) == (50, 1)
    assert content["system"]["paper"] is None and content["artifact"]["scores_url"] is None
    values = {line.split()[0]: float(line.split()[1]) for line in scores.read_text().splitlines()}
    bonafide, spoof = ([values[f"t{index}"] for index in part] for part in (range(20), range(20, 49)))
    assert content["scores"]["eer_percent"] == 100 * metrics.eer(bonafide, spoof).rate
    assert check_result(content, scores, labels) == []


def test_check_result_names_each_difference(scored: tuple[Path, Labels]) -> None:
    scores, labels = scored
    content = make_result(scores, labels, NAME, system=SYSTEM).to_dict()
    scores.write_text(scores.read_text() + "\n")
    content["scores"] |= {"n_skipped": 0, "eer_percent": content["scores"]["eer_percent"] + 2 * EER_TOLERANCE}
    problems = check_result(content, scores, labels)
    assert len(problems) == 3
    assert "the score file's sha256 is" in problems[0]
    assert "49 scored and 0 skipped of 50 trials" in problems[1]
    assert "the EER is" in problems[2]


def test_invalid_results_are_errors(scored: tuple[Path, Labels], tmp_path: Path) -> None:
    scores, labels = scored
    with pytest.raises(InputError, match="slug 'Mine!'"):
        System("Mine", "Mine!")
    with pytest.raises(InputError, match="its own format"):
        make_result(tmp_path / "s.csv", labels, NAME, system=SYSTEM)
    fewer = Labels("fewer", labels.utterance_ids[:40], labels.bonafide[:40])
    with pytest.raises(InputError, match="9 trials that fewer does not have:\n  t40"):
        make_result(scores, fewer, NAME, system=SYSTEM)


def test_a_result_states_the_revision_only_if_it_is_a_commit(scored: tuple[Path, Labels]) -> None:
    scores, labels = scored
    unpinned = make_result(scores, labels, f"{dataset.ORGANISATION}/SONAR", system=SYSTEM)
    assert unpinned.dataset.revision is None, "a branch does not identify what was scored"
    given = make_result(
        *(scores, labels, NAME),
        system=SYSTEM,
        revision="0123abc",
        bench_version="speech-spoof-bench==0.4.0",
        reproduction={},
        submitted_at="2026-11-24",
    ).to_dict()
    assert given["dataset"]["revision"] == "0123abc"
    assert (given["reproduction"], given["submitted_at"]) == ({}, "2026-11-24")
    assert given["artifact"]["bench_version"] == "speech-spoof-bench==0.4.0"


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


def test_the_command_writes_a_result(
    scored: tuple[Path, Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, labels = scored
    (tmp_path / "labels.parquet").write_bytes(
        labels_file(list(labels.utterance_ids), [int(not bonafide) for bonafide in labels.bonafide])
    )
    asked = ["evaluate", scores, "--labels", tmp_path / "labels.parquet", "--common", "--resamples", 0]
    wanted = ["--result", tmp_path / "result.yaml", "--dataset", NAME, "--system", "Mine"]
    assert spectra(monkeypatch, *asked, *wanted) == 2
    assert "--result needs" in capsys.readouterr().err
    assert spectra(monkeypatch, *asked, *wanted, "--slug", "mine-1") == 0
    content = yaml.safe_load((tmp_path / "result.yaml").read_text())
    assert check_result(content, scores, labels) == [] and content["system"]["name"] == "Mine"
